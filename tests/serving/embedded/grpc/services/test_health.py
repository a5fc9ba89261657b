"""The health service, as the core becomes ready and no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.embedded.access.tokens import FOR_ANYONE
from serving.embedded.grpc.services import health
from serving.embedded.grpc.services.health import Health
from serving.errors import NotFound, Unimplemented

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def one(request: HealthCheckRequest) -> Any:
    """The only message of a stream."""
    yield request


def test_who_watches_is_told_of_each_change_and_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who watch; one task looks for them, as long as anybody does."""
    monkeypatch.setattr(health, "_POLL_SECONDS", 0.001)
    core: Any = SimpleNamespace(ready=False)
    call: Any = None

    async def watched() -> list[list[int]]:
        service = Health(core)
        streams: list[Any] = [service._watch(one(HealthCheckRequest(service=name)), call) for name in ("", "unknown")]
        answers: list[list[int]] = [[], []]
        for ready in (False, True, False):
            core.ready = ready
            answers[0].append((await asyncio.wait_for(anext(streams[0]), 10)).status)
        answers[1].append((await asyncio.wait_for(anext(streams[1]), 10)).status)
        look = service._look
        assert look is not None
        service.stop()
        for stream, told in zip(streams, answers, strict=True):
            told += [answer.status async for answer in stream]
        with pytest.raises(asyncio.CancelledError):
            await look
        return answers

    assert asyncio.run(watched()) == [
        [NOT_SERVING, SERVING, NOT_SERVING, NOT_SERVING],
        [HealthCheckResponse.SERVICE_UNKNOWN, NOT_SERVING],
    ]


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize(
    "name", ["", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"], ids=["all", "one", "other"]
)
def test_who_checks_is_told_the_state(name: str, ready: bool) -> None:
    """Of the server, or of one of its services, which is the same."""
    core: Any = SimpleNamespace(ready=ready)
    check: Any = Health(core).rpcs()[0].unary
    answer = asyncio.run(check(HealthCheckRequest(service=name), None))
    assert answer.status == (SERVING if ready else NOT_SERVING)


def test_who_checks_a_service_that_there_is_not_is_told_which_there_are() -> None:
    """As the protocol has it: NOT_FOUND."""
    core: Any = SimpleNamespace(ready=True)
    check: Any = Health(core).rpcs()[0].unary
    with pytest.raises(NotFound) as raised:
        asyncio.run(check(HealthCheckRequest(service="unknown"), None))
    assert str(raised.value) == (
        "service unknown is not known: tensorflow.serving.PredictionService, tensorflow.serving.ModelService are"
    )


def test_both_methods_are_answered_to_anyone_whatever_is_under_way() -> None:
    """They tell the server's state."""
    core: Any = SimpleNamespace(ready=True)
    rpcs = Health(core).rpcs()
    assert [rpc.path for rpc in rpcs] == ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]
    assert [(rpc.scopes, rpc.counts, rpc.measured) for rpc in rpcs] == [(FOR_ANYONE, False, False)] * 2


def test_a_watch_without_a_message() -> None:
    """It says what is missing."""
    requests: list[HealthCheckRequest] = []

    async def nothing() -> Any:
        for request in requests:
            yield request

    core: Any = SimpleNamespace(ready=True)
    watch: Any = Health(core).rpcs()[1].streaming

    with pytest.raises(Unimplemented, match="Watch takes one message, not none"):
        asyncio.run(anext(watch(nothing(), None)))


def test_changes_are_looked_for_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as somebody watches."""
    core: Any = SimpleNamespace(ready=False)
    service = Health(core)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        core.ready = len(slept) >= 3
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)

    async def watched() -> list[int]:
        stream: Any = service._watch(one(HealthCheckRequest()), None)  # type: ignore[arg-type]
        return [(await anext(stream)).status for _ in range(2)]

    assert asyncio.run(watched()) == [NOT_SERVING, SERVING]
    assert slept[:3] == [0.5] * 3


def test_who_watches_after_all_have_gone_is_told_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look for changes ends with the last who watches, and begins again with the next."""
    monkeypatch.setattr(health, "_POLL_SECONDS", 0.001)
    core: Any = SimpleNamespace(ready=False)
    service = Health(core)
    watch: Any = service.rpcs()[1].streaming

    async def watched() -> list[int]:
        told = []
        for _ in range(2):
            stream = watch(one(HealthCheckRequest()), None)
            for ready in (False, True):
                core.ready = ready
                told.append((await asyncio.wait_for(anext(stream), 10)).status)
            await stream.aclose()
            while service._look is not None:
                await asyncio.sleep(0.001)
        return told

    assert asyncio.run(watched()) == [NOT_SERVING, SERVING] * 2
