"""Reflection: what is answered again is the same, and what a client makes up is not kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from google.protobuf.message import Message
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from serving.embedded.grpc.services import reflection

KNOWN = "tensorflow.serving.PredictionService"


def asked(*symbols: str) -> tuple[list[Message], int]:
    """What a client is answered on one stream, and for how many of the answers descriptors were written out."""
    rpc = reflection.rpcs()[0]

    async def requests() -> AsyncIterator[ServerReflectionRequest]:
        for symbol in symbols:
            yield ServerReflectionRequest(file_containing_symbol=symbol)

    async def answers() -> list[Message]:
        return [answer async for answer in rpc.streaming(requests(), None)]  # type: ignore[misc, arg-type]

    with patch.object(
        ReflectionServicer, "ServerReflectionInfo", autospec=True, side_effect=ReflectionServicer.ServerReflectionInfo
    ) as written:
        return asyncio.run(answers()), written.call_count


def test_a_question_that_is_asked_again_costs_nothing() -> None:
    """Its answer repeats it, and has the descriptors."""
    (first, second), written = asked(KNOWN, KNOWN)
    assert first == second
    assert written == 1
    assert first.original_request.file_containing_symbol == KNOWN  # type: ignore[attr-defined]
    assert len(first.file_descriptor_response.file_descriptor_proto) > 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [250, 300])
def test_each_question_has_its_own_answer(length: int) -> None:
    """Short or long; a long one is no name of ours, and nothing of it is kept."""
    name = "x" * length
    (one, other, again), written = asked(name, KNOWN, name)
    assert one == again
    assert one.original_request.file_containing_symbol == name  # type: ignore[attr-defined]
    assert one.error_response.error_code == 5  # type: ignore[attr-defined]
    assert other.original_request.file_containing_symbol == KNOWN  # type: ignore[attr-defined]
    assert written == (2 if length == 250 else 3)
