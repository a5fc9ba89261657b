"""A deadline for each call, and what closing a connection does to calls: before, under way, in every API and kind."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.aio
from client import ClientUsageError, ModelSpec, connect
from client.aio import AsyncConnection
from client.connection import Connection
from client.errors import DeadlineExceededError
from serving.apis.messages import PredictRequest
from tests.support.client_commands import APIS

_CLOSED = "the connection is closed: open another one with connect"
# Every method that asks the server, with what it is asked.
CALLS: Mapping[str, tuple[Any, ...]] = {
    "predict": (np.zeros((1, 28, 28), np.uint8),),
    "predict_lazily": (np.zeros((1, 28, 28), np.uint8),),
    "infer": ({"x": [1]},),
    "classify": ([{"x": 1.0}],),
    "regress": ([{"x": 1.0}],),
    "multi_inference": ([{"x": 1.0}], ["regress_x_to_y"]),
    "exchange": (PredictRequest(),),
    "status": (),
    "metadata": (),
    "metrics": (),
}
EACH = pytest.mark.parametrize("name", CALLS)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that the model `gate` waits for; it is there in the end, since a server waits for what it runs."""
    yield tmp_path / "file"
    (tmp_path / "file").touch()


def test_every_method_that_asks_takes_a_timeout() -> None:
    """No other does."""
    with_timeout = {
        name
        for name, method in inspect.getmembers(Connection, inspect.isfunction)
        if "timeout" in inspect.signature(method).parameters and not name.startswith("_")
    }
    assert with_timeout == CALLS.keys()


@APIS
@EACH
def test_a_closed_connection_says_so(any_models: dict[str, str], api: str, name: str) -> None:
    """Whatever was read before, and whatever the API's library would say."""
    connection = connect(any_models[api], model=ModelSpec("tf1"))
    connection.metadata()
    connection.close()
    connection.close()
    with pytest.raises(ClientUsageError, match=_CLOSED):
        getattr(connection, name)(*CALLS[name])


@APIS
@EACH
def test_a_closed_connection_of_asyncio_says_so(any_models: dict[str, str], api: str, name: str) -> None:
    """As the other one."""

    async def ask() -> None:
        connection = client.aio.connect(any_models[api], model=ModelSpec("tf1"))
        await connection.metadata()
        await connection.close()
        await connection.close()
        await getattr(connection, name)(*CALLS[name])

    with pytest.raises(ClientUsageError, match=_CLOSED):
        asyncio.run(ask())


@APIS
@EACH
@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_deadline_of_a_call_must_be_above_zero(
    any_models: dict[str, str], api: str, name: str, timeout: float
) -> None:
    """As the connection's; nothing is sent."""
    with (
        connect(any_models[api], model=ModelSpec("tf1")) as connection,
        pytest.raises(ClientUsageError, match=f"a deadline of {timeout:g} s cannot be met"),
    ):
        getattr(connection, name)(*CALLS[name], timeout=timeout)


@APIS
def test_a_deadline_of_a_call_comes_before_the_connections(any_models: dict[str, str], api: str, gate: Path) -> None:
    """A shorter one ends the wait, a longer one lets it come to its end."""
    inputs = {"path": [str(gate)]}
    with connect(any_models[api], model=ModelSpec("gate")) as connection:
        connection.metadata()
        with pytest.raises(DeadlineExceededError):
            connection.infer(inputs, timeout=0.2)

    async def asynchronous() -> None:
        async with client.aio.connect(any_models[api], model=ModelSpec("gate"), timeout=0.2) as connection:
            await connection.metadata(timeout=10)
            answer = asyncio.create_task(connection.infer(inputs, timeout=10))
            with pytest.raises(DeadlineExceededError):
                await connection.infer(inputs)
            gate.touch()
            assert (await answer)["path"].tolist() == [inputs["path"][0].encode()]

    asyncio.run(asynchronous())


def _sent(connection: Connection | AsyncConnection) -> threading.Event:
    """Set when a request of the connection is on its way to the library."""
    event = threading.Event()
    [transport] = connection._round_robin.transports
    send: Callable[..., Any] = transport.send

    def observed(request: Any, timeout: float) -> Any:
        event.set()
        return send(request, timeout)

    transport.send = observed  # type: ignore[method-assign]
    return event


@APIS
def test_closing_ends_a_call_that_is_under_way(any_models: dict[str, str], api: str, gate: Path) -> None:
    """With the error of a closed connection, at once or when its deadline passes."""
    connection = connect(any_models[api], model=ModelSpec("gate"))
    connection.metadata()
    sent = _sent(connection)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(connection.infer, {"path": [str(gate)]}, timeout=1)
        assert sent.wait(10)
        connection.close()
        with pytest.raises(ClientUsageError, match=_CLOSED):
            answer.result(timeout=10)


@APIS
def test_closing_ends_a_call_of_asyncio_that_is_under_way(any_models: dict[str, str], api: str, gate: Path) -> None:
    """With the same error, and without cancelling the task that waits."""

    async def ask() -> None:
        connection = client.aio.connect(any_models[api], model=ModelSpec("gate"))
        await connection.metadata()
        sent = _sent(connection)
        answer: Awaitable[Any] = asyncio.create_task(connection.infer({"path": [str(gate)]}, timeout=2))
        while not sent.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await connection.close()
        await answer

    with pytest.raises(ClientUsageError, match=_CLOSED):
        asyncio.run(ask())


@APIS
@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task of Python 3.10 does not tell that it was cancelled")
def test_a_task_that_is_cancelled_is_cancelled(any_models: dict[str, str], api: str, gate: Path) -> None:
    """Also when the connection is closed while the cancellation is on its way."""

    async def ask() -> None:
        connection = client.aio.connect(any_models[api], model=ModelSpec("gate"))
        await connection.metadata()
        sent = _sent(connection)
        task = asyncio.create_task(connection.infer({"path": [str(gate)]}, timeout=2))
        while not sent.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        await connection.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
