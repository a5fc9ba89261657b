"""Any model's signatures by a live server, over both APIs, sync and async: arrays in, arrays out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import client.aio
from client import ClientUsageError, Connection, ModelSpec, Recorder, ServerError, connect
from client.transports.fake import FakeTransport
from serving.apis import tensors
from serving.apis.recordings import exchange, read_recording
from tests.support.client_commands import APIS
from tests.support.live import running

KITCHEN_DTYPES = {
    "f32": np.array([0.1, -np.inf], np.float32),
    "f64": np.array([1 / 3, np.inf]),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "i64": np.array([-(2**63), 2**63 - 1]),
    "u8": np.array([0, 255], np.uint8),
    "flag": np.array([True, False]),
    "text": np.array([b"\xff\0", "ä".encode()], object),
}
MANY_TYPES = {
    "bfloat16": np.array([0.1, 3e38, -np.inf], ml_dtypes.bfloat16),
    "half": np.array([0.1, -65504], np.float16),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-(2**15), 2**15 - 1], np.int16),
    "uint16": np.array([0, 2**16 - 1], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "complex64": np.array([1 + 2j], np.complex64),
    "complex128": np.array([1 / 3 - 2j]),
    "qint8": np.array([-128, 127], np.int8),
}


def infer(server: str, model: str, inputs: Mapping[str, Any], **options: Any) -> dict[str, np.ndarray]:
    """What both connections answer, which must be the same."""

    async def asynchronous() -> dict[str, np.ndarray]:
        async with client.aio.connect(server, model=ModelSpec(model)) as connection:
            return await connection.infer(inputs, **options)

    with connect(server, model=ModelSpec(model)) as connection:
        outputs = connection.infer(inputs, **options)
    check(asyncio.run(asynchronous()), outputs)
    return outputs


def check(outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Names, dtypes, shapes and values; NaN is NaN."""
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert (outputs[name].dtype, outputs[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(outputs[name], array)
        assert outputs[name].flags.writeable


@APIS
@pytest.mark.parametrize("rows", [2, 0])
def test_every_common_dtype_comes_back_as_it_went(any_models: dict[str, str], api: str, rows: int) -> None:
    """Extremes, infinities, bytes that are no text; an empty batch too."""
    inputs = {name: array[:rows] for name, array in KITCHEN_DTYPES.items() if name != "text"}
    text = KITCHEN_DTYPES["text"][:rows]
    outputs = infer(any_models[api], "kitchen", {**inputs, "text": text}, signature_name="dtypes")
    check(outputs, {**inputs, "text": text, "text_bytes": text + b"!"})


def test_every_rarer_dtype_comes_back_as_it_went(any_models: dict[str, str]) -> None:
    """bfloat16, half, complex and quantized numbers, each with a length of its own."""
    outputs = infer(any_models["grpc"], "many_types", MANY_TYPES)
    check(outputs, {f"{name}_out": array for name, array in MANY_TYPES.items()})


def test_rest_refuses_what_json_cannot_carry(any_models: dict[str, str]) -> None:
    """Complex numbers, with the way that has them."""
    with (
        connect(any_models["rest"], model=ModelSpec("many_types")) as connection,
        pytest.raises(
            ClientUsageError, match="the input complex128 is complex128, which has no JSON form: name a gRPC"
        ),
    ):
        connection.infer(MANY_TYPES)


@APIS
@pytest.mark.parametrize(
    ("signature_name", "inputs", "expected"),
    [
        ("scalar", {"x": 3}, {"y": np.array(6, np.float32)}),
        ("fixed", {"x": [[1, 2], [3, 4]]}, {"y": np.array([[1, 3], [2, 4]], np.float32)}),
        (
            "two_in_two_out",
            {"matrix": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "offset": [7]},
            {"next": np.array([8]), "row_sums": np.array([[10, 19]], np.float32)},
        ),
        ("bytes_sum", {"pixels": [[1, 2, 3, 250]]}, {"sum": np.array([256], np.int32)}),
        (None, {"x": np.array([], np.float32)}, {"y": np.array([], np.float32)}),
    ],
)
def test_scalars_to_matrices(
    any_models: dict[str, str],
    api: str,
    signature_name: str | None,
    inputs: Mapping[str, Any],
    expected: Mapping[str, np.ndarray],
) -> None:
    """Lists and numbers take the signature's dtype; a single output has its name over REST too."""
    outputs = infer(any_models[api], "kitchen", inputs, signature_name=signature_name)
    check(outputs, expected)


@APIS
@pytest.mark.parametrize(
    ("wanted", "names"), [(["bias"], {"bias"}), (["y", "bias"], {"y", "bias"}), ((), {"y", "bias"})]
)
def test_only_wanted_outputs_are_given(
    any_models: dict[str, str], api: str, wanted: Sequence[str], names: set[str]
) -> None:
    """By the server over gRPC, by the client over REST."""
    assert infer(any_models[api], "half_plus_two", {"x": [1]}, output_filter=wanted).keys() == names


def test_inputs_and_answers_may_be_larger_than_a_message_of_grpcs_default(any_models: dict[str, str]) -> None:
    """4 MB is the limit of gRPC's own clients for what they receive."""
    outputs = infer(any_models["grpc"], "big_answers", {"x": [1]})
    assert outputs["y"].nbytes > 4 * 2**20
    x = np.zeros(2**21, np.float32)
    assert infer(any_models["grpc"], "half_plus_two", {"x": x}, output_filter=["y"])["y"].shape == x.shape


def test_a_request_above_the_servers_limit_says_what_to_do(toys: Path) -> None:
    """Both ports have it."""
    flags = ("--model_name=m", f"--model_base_path={toys / 'half_plus_two'}", "--max_request_bytes=10000")
    with running(*flags) as server:
        for url in (f"grpc://{server.grpc}", f"http://{server.rest}"):
            with connect(url, model=ModelSpec("m")) as connection:
                assert connection.infer({"x": np.zeros(100, np.float32)})["y"].shape == (100,)
                x = np.random.default_rng(0).random(10_000, np.float32)
                with pytest.raises(ServerError, match=r"RESOURCE_EXHAUSTED: .*\(send fewer rows at a time, or raise"):
                    connection.infer({"x": x})


def test_a_transport_for_tests_answers_too() -> None:
    """As arrays of the signature's dtypes."""
    connection = Connection([FakeTransport(class_id=9)], ModelSpec())
    outputs = connection.infer({"images": np.zeros((2, 28, 28), np.uint8)})
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["probabilities"].argmax(axis=1).tolist() == [9, 9]


@APIS
def test_what_is_inferred_is_recorded(any_models: dict[str, str], api: str, tmp_path: Path) -> None:
    """The request as it was sent; the answer with the dtypes of the metadata over REST."""
    with (
        Recorder(tmp_path / "r") as recorder,
        connect(any_models[api], model=ModelSpec("kitchen"), recorder=recorder) as connection,
    ):
        connection.infer(KITCHEN_DTYPES, signature_name="dtypes")
        connection.infer({"x": [1.5]})
    dtypes, single = (exchange(log) for log in read_recording(tmp_path / "r"))
    assert {name: tensors.make_ndarray(proto).dtype for name, proto in dtypes.request.inputs.items()} == {
        name: array.dtype for name, array in KITCHEN_DTYPES.items()
    }
    np.testing.assert_array_equal(tensors.make_ndarray(dtypes.response.outputs["f64"]), KITCHEN_DTYPES["f64"])
    assert tensors.make_ndarray(single.response.outputs["y"]) == np.float32(3.75)
