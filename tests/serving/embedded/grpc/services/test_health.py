"""The health service, as the core becomes ready and no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.embedded.grpc.services import health
from serving.embedded.grpc.services.health import Health

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
