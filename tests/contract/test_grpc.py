"""Every recorded gRPC case gives TF Serving's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from serving.apis import messages
from tests.support.asking import METHODS
from tests.support.live import KITCHEN, Server

CASES = json.loads((Path(__file__).parent / "grpc.json").read_text())
METHODS_BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    """One connection for all cases."""
    with grpc.insecure_channel(server.grpc) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recorded_answer(case: dict[str, Any], channel: grpc.Channel) -> None:
    """The code and the details, or the message are as recorded."""
    check(case, channel)


def check(case: dict[str, Any], channel: grpc.Channel, models: Path = KITCHEN.parent) -> None:
    """Asks a case and compares the answer. models: where the server has them."""
    expected = case["response"]

    code, answer = ask(channel, case, models)

    assert code == expected["code"]
    if code == "OK":
        recorded = METHODS_BY_NAME[case["method"]].response_class.FromString(bytes.fromhex(expected["serialized"]))
        assert printed(answer) == printed(recorded)
    elif "{{node " not in expected["details"]:
        assert answer == expected["details"]


def printed(message: Message) -> str:
    """A message as text, what an Any holds included."""
    return text_format.MessageToString(message, descriptor_pool=messages.POOL)


def ask(channel: grpc.Channel, case: dict[str, Any], models: Path = KITCHEN.parent) -> tuple[str, Any]:
    """Sends a recorded request; the code, and the message or the details."""
    method = METHODS_BY_NAME[case["method"]]
    request = text_format.Parse(case["request"].replace("${MODELS}", str(models)), method.request_class())
    call = channel.unary_unary(
        method.path,
        request_serializer=method.request_class.SerializeToString,
        response_deserializer=method.response_class.FromString,
    )
    try:
        return "OK", call(request, timeout=30)
    except grpc.RpcError as error:
        return error.code().name, error.details()
