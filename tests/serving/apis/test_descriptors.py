"""The committed descriptors and stubs are those of the installed tensorflow-serving-api."""

from __future__ import annotations

import subprocess
import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from serving.apis import messages, services
from tools.generate_apis import APIS

GENERATE = "import sys; from tools import generate_apis as g; sys.stdout.buffer.write({}); sys.stdout.flush()"


def generated(expression: str) -> bytes:
    """What the generator gives, in a process of its own: it imports TensorFlow."""
    command = [sys.executable, "-c", GENERATE.format(expression)]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def test_descriptors_are_up_to_date() -> None:
    """File by file, so that a difference is named."""
    ours = FileDescriptorSet.FromString((APIS / "descriptors.binpb").read_bytes())
    theirs = FileDescriptorSet.FromString(generated("g.descriptor_set()"))

    assert [file.name for file in ours.file] == [file.name for file in theirs.file]
    for our, their in zip(ours.file, theirs.file, strict=True):
        assert our == their, f"{our.name} is out of date: make apis"


def test_stubs_are_up_to_date() -> None:
    """messages.pyi is what the generator writes."""
    assert (APIS / "messages.pyi").read_bytes() == generated("g.stub().encode()"), "out of date: make apis"


def test_methods_are_those_of_the_services() -> None:
    """Every method of both services is in the table with the names and messages of the descriptors."""
    described = {
        f"/{service}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
        for service in (services.PREDICTION_SERVICE, services.MODEL_SERVICE)
        for method in messages.service(service).methods
        if not (method.client_streaming or method.server_streaming)
    }

    assert {method.path: (method.request, method.response) for method in services.METHODS} == described
    for method in services.METHODS:
        assert method.request_class.DESCRIPTOR.full_name == method.request
        assert method.response_class.DESCRIPTOR.full_name == method.response


def test_unknown_names_are_no_attributes() -> None:
    """As for any module."""
    assert not hasattr(messages, "NoSuchMessage")
    assert messages.DT_UINT8 == 4
