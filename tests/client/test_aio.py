"""The connection for asyncio: the same methods, answers and attempts as the other one's."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import client.connection
from client import aio
from client.aio import AsyncConnection
from client.connection import Connection
from client.errors import ClientUsageError, ServerError, server_error
from client.pictures.batch import Batch
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import Metadata, ModelSpec, Prediction, VersionStatus
from tests.support.client_commands import APIS
from tests.support.road import Road


class _AsyncFake(FakeTransport):
    """A FakeTransport whose requests are awaited, which takes a while; its metadata is counted."""

    def __init__(self, *errors: ServerError) -> None:
        super().__init__(errors=list(errors))
        self.metadata_calls = 0

    def metadata(self, model: ModelSpec) -> Exchange[Metadata]:
        self.metadata_calls += 1
        return super().metadata(model)

    async def send(self, request: Any, timeout: float) -> Any:
        await asyncio.sleep(0)
        return super().send(request, timeout)

    async def close(self) -> None:
        super().close()


def _public_methods(cls: type) -> dict[str, list[inspect.Parameter]]:
    return {
        name: list(inspect.signature(method).parameters.values())
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_kinds_have_the_same_public_methods() -> None:
    """By name, parameters and defaults; a method that only one of them has is a method that was forgotten."""
    names = _public_methods(Connection)
    assert names == _public_methods(AsyncConnection)
    assert all(map(inspect.iscoroutinefunction, (getattr(AsyncConnection, name) for name in names)))


def test_both_connect_functions_have_the_same_parameters() -> None:
    """Servers, model, timeout and security."""
    signatures = [inspect.signature(function) for function in (client.connection.connect, aio.connect)]
    assert signatures[0].parameters == signatures[1].parameters


def test_metadata_is_read_once_by_all_tasks() -> None:
    """Tasks that start together wait for the first one's answer."""
    transport = _AsyncFake()

    async def predict() -> list[list[Prediction]]:
        async with AsyncConnection([transport], ModelSpec()) as connection:
            image = np.zeros((1, 28, 28), np.uint8)
            return await asyncio.gather(*(connection.predict(image) for _ in range(5)))

    assert [len(predictions) for predictions in asyncio.run(predict())] == [1] * 5
    assert (transport.metadata_calls, len(transport.asked), transport.closed) == (1, 5, True)


def test_unavailable_is_tried_again_at_the_next_address() -> None:
    """As by the other connection: three rounds, and no other error."""

    async def status(*transports: _AsyncFake) -> list[VersionStatus]:
        async with AsyncConnection(transports, ModelSpec(), timeout=1) as connection:
            return await connection.status()

    unavailable = server_error("UNAVAILABLE", "gone")
    assert asyncio.run(status(_AsyncFake(unavailable, unavailable)))[0].state == "AVAILABLE"
    assert asyncio.run(status(_AsyncFake(unavailable), _AsyncFake()))[0].state == "AVAILABLE"
    with pytest.raises(ServerError, match="gone"):
        asyncio.run(status(_AsyncFake(*[unavailable] * 3)))
    with pytest.raises(ServerError, match="broken"):
        asyncio.run(status(_AsyncFake(server_error("INTERNAL", "broken"))))


def test_pictures_are_decoded_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays need nothing but the loop."""
    Image.fromarray(np.pad(np.full((14, 14), 150, np.uint8), 7)).save(tmp_path / "a.png")
    threads: list[threading.Thread] = []
    of = Batch.of

    def note(*asked: Any) -> Batch:
        threads.append(threading.current_thread())
        return of(*asked)

    monkeypatch.setattr(Batch, "of", note)

    async def predict() -> None:
        async with AsyncConnection([_AsyncFake()], ModelSpec()) as connection:
            await connection.predict(np.zeros((1, 28, 28), np.uint8))
            await connection.predict([tmp_path / "a.png"], preprocess="none")

    asyncio.run(predict())
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_a_closed_connection_says_so() -> None:
    """As the other one does."""

    async def predict_after_close() -> None:
        connection = AsyncConnection([_AsyncFake()], ModelSpec())
        await connection.close()
        await connection.predict(np.zeros((1, 28, 28), np.uint8))

    with pytest.raises(ClientUsageError, match="the connection is closed"):
        asyncio.run(predict_after_close())


def test_large_batches_are_sent_in_parts() -> None:
    """In order, each below the message limit."""
    transport = _AsyncFake()

    async def predict() -> list[Prediction]:
        async with AsyncConnection([transport], ModelSpec()) as connection:
            return await connection.predict(np.zeros((6000, 28, 28), np.uint8))

    assert len(asyncio.run(predict())) == 6000
    shapes: list[Any] = [call.inputs["images"].shape for call in transport.asked]
    assert (len(shapes), sum(shape[0] for shape in shapes)) == (2, 6000)


@APIS
def test_a_live_server_gives_the_same_answers(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """Many at once on one event loop."""
    images = [np.asarray(Image.open(path)) for path in pictures]
    with client.connection.connect(road.servers["grpc"]) as sync:
        expected = sync.predict(images)

    async def predict() -> list[list[Prediction]]:
        async with aio.connect(road.servers[api]) as connection:
            assert (await connection.status())[0].runtime == "tensorflow"
            return await asyncio.gather(*(connection.predict([image]) for image in images))

    for [prediction], reference in zip(asyncio.run(predict()), expected, strict=True):
        assert prediction.class_name == reference.class_name
        assert prediction.probabilities == pytest.approx(reference.probabilities, abs=1e-6)
