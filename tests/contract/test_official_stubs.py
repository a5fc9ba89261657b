"""tensorflow_serving's official Python stubs, in a process with TensorFlow, get the recorded answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.apis import messages
from tests.support.asking import METHODS
from tests.support.live import KITCHEN, Server

RECORDINGS = Path(__file__).parent / "grpc.json"
STUBS = Path(__file__).parents[1] / "support" / "official_stubs.py"
CASES = json.loads(RECORDINGS.read_text())
METHODS_BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, dict[str, str]]:
    """The answers to all recorded requests."""
    command = [sys.executable, str(STUBS), server.grpc, str(RECORDINGS), str(KITCHEN.parent)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    result: dict[str, dict[str, str]] = json.loads(process.stdout)
    return result


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_same_answer(name: str, answers: dict[str, dict[str, str]]) -> None:
    """The code, the details, and the message field by field."""
    expected = next(case for case in CASES if case["name"] == name)["response"]
    method = METHODS_BY_NAME[next(case["method"] for case in CASES if case["name"] == name)]

    assert answers[name]["code"] == expected["code"]
    if expected["code"] == "OK":
        recorded = method.response_class.FromString(bytes.fromhex(expected["serialized"]))
        answer = text_format.Parse(answers[name]["text"], method.response_class(), descriptor_pool=messages.POOL)
        assert text_format.MessageToString(answer, descriptor_pool=messages.POOL) == text_format.MessageToString(
            recorded, descriptor_pool=messages.POOL
        )
    elif "{{node " not in expected["details"]:
        assert answers[name]["text"] == expected["details"]
