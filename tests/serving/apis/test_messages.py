"""The API's messages live beside TensorFlow's own, and are those of tensorflow-serving-api."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_common.runtimes import WITHOUT_KERAS
from serving.apis import messages, services
from tests.support.asking import METHODS

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, **WITHOUT_KERAS}

# Both registrations in one process, in both orders, and one message through both.
_BESIDE_TENSORFLOW = """
import {first}
import {second}
from tensorflow_serving.apis import predict_pb2
from serving.apis import messages
ours = messages.PredictRequest()
ours.model_spec.name = "m"
ours.inputs["x"].float_val.append(1.5)
theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
assert theirs.model_spec.name == "m" and list(theirs.inputs["x"].float_val) == [1.5]
assert messages.PredictRequest.FromString(theirs.SerializeToString()) == ours
"""


def test_descriptors_and_stubs_are_up_to_date() -> None:
    """`make apis` would change nothing."""
    program = (
        "import runpy, sys\n"
        "generator = runpy.run_path('tools/generate_apis.py')\n"
        "sys.stdout.buffer.write(generator['descriptor_set']() + b'\\0STUB\\0' + generator['stub']().encode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    descriptors, stub = done.stdout.split(b"\0STUB\0")
    apis = ROOT / "serving" / "apis"
    assert descriptors == (apis / "descriptors.binpb").read_bytes(), "run `make apis`"
    assert stub == (apis / "messages.pyi").read_bytes(), "run `make apis`"


@pytest.mark.parametrize("order", [("tensorflow", "serving.apis.messages"), ("serving.apis.messages", "tensorflow")])
def test_they_live_beside_tensorflows_registrations(order: tuple[str, str]) -> None:
    """In the default pool a second registration of the same files would clash."""
    program = _BESIDE_TENSORFLOW.format(first=order[0], second=order[1])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_them_imports_no_tensorflow() -> None:
    """The client installs without it."""
    program = "import serving.apis.tensors, serving.apis.services, sys; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no message or enum value 'Nothing'"):
        _ = messages.Nothing  # type: ignore[attr-defined]
    assert messages.DT_FLOAT == 1


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_methods_are_those_of_the_descriptors(method: services.Method) -> None:
    """Its messages are those that the services' own descriptors name."""
    described = messages.service(method.service).methods_by_name[method.name]
    assert method.request_class.DESCRIPTOR is described.input_type
    assert method.response_class.DESCRIPTOR is described.output_type
    assert method.path == f"/{method.service}/{method.name}"


def test_every_method_of_both_services_is_listed() -> None:
    """Nothing that TF Serving answers is left out."""
    described = {
        (service, method.name)
        for service in (services.PREDICTION_SERVICE, services.MODEL_SERVICE)
        for method in messages.service(service).methods
    }
    assert described == {(method.service, method.name) for method in METHODS}


def test_the_generator_is_a_script() -> None:
    """It runs only as `make apis`, not when it is read."""
    assert "main" in runpy.run_path(str(ROOT / "tools" / "generate_apis.py"), run_name="read")
