"""tf.Examples made of dicts, and Classify, Regress and MultiInference by a live server, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.aio
from client import ClassScore, ClientUsageError, ModelSpec, connect
from client.connection import Connection
from client.examples import example
from client.transports.fake import FakeTransport
from client.types import Metadata, Signature, TensorInfo
from serving.apis.messages import Feature
from tests.support.client_commands import APIS
from tests.support.road import Road

EXAMPLES: list[Mapping[str, Any]] = [{"x": 0.25}, {"x": [1.0]}]
YES_NO = [[ClassScore("yes", 0.25), ClassScore("no", 0.75)], [ClassScore("yes", 1.0), ClassScore("no", 0.0)]]
# That of version 2: x / 2 + 3.
VALUES = [3.125, 3.5]


def answer(server: str, model: str, method: str, *arguments: Any, **options: Any) -> Any:
    """What both connections answer, which must be the same."""

    async def asynchronous() -> Any:
        async with client.aio.connect(server, model=ModelSpec(model)) as connection:
            return await getattr(connection, method)(*arguments, **options)

    with connect(server, model=ModelSpec(model)) as connection:
        result = getattr(connection, method)(*arguments, **options)
    assert asyncio.run(asynchronous()) == result
    return result


@APIS
def test_classify_gives_labels_and_scores(any_models: dict[str, str], api: str) -> None:
    """Of the only signature for it; one that is named, and a context, do the same."""
    assert answer(any_models[api], "kitchen", "classify", EXAMPLES) == YES_NO
    options = {"context": {"x": 0.25}, "signature_name": "classify"}
    assert answer(any_models[api], "kitchen", "classify", [{}], **options) == YES_NO[:1]


@APIS
def test_regress_gives_values(any_models: dict[str, str], api: str) -> None:
    """One an example, of any signature that takes examples."""
    assert answer(any_models[api], "kitchen", "regress", EXAMPLES) == VALUES
    assert answer(any_models[api], "tf1", "regress", EXAMPLES, signature_name="regress_x_to_y") == [2.125, 2.5]
    assert answer(any_models[api], "tf1", "classify", EXAMPLES[:1]) == [[ClassScore("", 2.125)]]


def test_multi_inference_gives_each_signatures_result(any_models: dict[str, str]) -> None:
    """By its name, as its method has it."""
    results = answer(any_models["grpc"], "kitchen", "multi_inference", EXAMPLES, ["classify", "regress"])
    assert results == {"classify": YES_NO, "regress": VALUES}


def test_rest_has_no_multi_inference(any_models: dict[str, str]) -> None:
    """The error names the API that has."""
    with (
        connect(any_models["rest"], model=ModelSpec("kitchen")) as connection,
        pytest.raises(
            ClientUsageError, match="REST has no MultiInferenceRequest: name a gRPC server with --server grpc"
        ),
    ):
        connection.multi_inference(EXAMPLES, ["classify", "regress"])


@APIS
def test_picture_files_are_classified(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """Bytes of any kind go over both APIs."""
    [rows] = answer(
        road.servers[api], "fashion_mnist", "classify", [{"image/encoded": next(iter(pictures)).read_bytes()}]
    )
    assert len(rows) == 10
    assert sum(row.score for row in rows) == pytest.approx(1)


@pytest.mark.parametrize(
    ("value", "kind", "values"),
    [
        ("ä", "bytes_list", ["ä".encode()]),
        ([b"\xff", "b"], "bytes_list", [b"\xff", b"b"]),
        (np.array([b"ab", b"c"]), "bytes_list", [b"ab", b"c"]),
        (7, "int64_list", [7]),
        ((-(2**63), 2**63 - 1), "int64_list", [-(2**63), 2**63 - 1]),
        ([True, 0], "int64_list", [1, 0]),
        (np.arange(2), "int64_list", [0, 1]),
        (0.5, "float_list", [0.5]),
        ([1, 0.5], "float_list", [1, 0.5]),
        (np.float32(0.25), "float_list", [0.25]),
        ([], "bytes_list", []),
    ],
)
def test_a_feature_has_the_kind_of_its_values(value: Any, kind: Any, values: Sequence[Any]) -> None:
    """Those of Python and of numpy."""
    feature: Feature = example({"x": value}).features.feature["x"]
    assert list(getattr(feature, kind).value) == values


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[1.0]], r"\[\[1.0\]\]: got list"),
        (np.zeros((1, 2)), "got list"),
        ([1, "a"], "got int, str"),
        ([True, 0.5], "got bool, float"),
        (None, "None: got NoneType"),
        (2**63, "out of range"),
        ({}, "got dict"),
    ],
)
def test_what_is_no_feature_is_refused(value: Any, reason: str) -> None:
    """With its name, its beginning, and what it may be."""
    with pytest.raises(ClientUsageError, match=f"^the feature `x` takes text or bytes, int64, or floats, .*{reason}"):
        example({"x": value})


STRINGS = {"inputs": TensorInfo("DT_STRING", (-1,))}
FLOATS = {"x": TensorInfo("DT_FLOAT", (-1,))}


@pytest.mark.parametrize(
    ("method", "arguments", "options", "text"),
    [
        ("regress", [{"x": 1.0}], {}, "examples are a list of one dict or more: [{'x': 1.0}, {'x': 2.0}]"),
        ("regress", [[]], {}, "examples are a list of one dict or more: [{'x': 1.0}, {'x': 2.0}]"),
        ("regress", [[1.0]], {}, "an example is a dict of features, such as {'x': 1.0}, not float"),
        ("regress", [EXAMPLES], {"context": 1}, "an example is a dict of features, such as {'x': 1.0}, not int"),
        ("classify", [EXAMPLES], {"signature_name": "z"}, "it has serving_default, a, b, r (--signature)"),
        ("classify", [EXAMPLES], {}, "takes x DT_FLOAT [N], and no tf.Examples: a, b would"),
        ("regress", [EXAMPLES], {"signature_name": "serving_default"}, "and no tf.Examples: r would"),
        ("multi_inference", [EXAMPLES, ["a", "serving_default"]], {}, ": wanted are classify and regress"),
    ],
)  # fmt: skip
def test_what_no_signature_takes_is_refused(
    method: str, arguments: Sequence[Any], options: Mapping[str, Any], text: str
) -> None:
    """Before anything is sent; the error names a signature that would."""
    signatures = {"serving_default": Signature(FLOATS, {}, "tensorflow/serving/predict")}
    signatures |= {name: Signature(STRINGS, {}, "tensorflow/serving/classify") for name in ("a", "b")}
    signatures |= {"r": Signature(STRINGS, {}, "tensorflow/serving/regress")}
    connection = Connection([FakeTransport(model_metadata=Metadata("m", 1, signatures))], ModelSpec())
    with pytest.raises(ClientUsageError) as excinfo:
        getattr(connection, method)(*arguments, **options)
    assert str(excinfo.value).endswith(text)


def test_a_model_without_such_a_signature_is_for_infer() -> None:
    """The error says so."""
    connection = Connection([FakeTransport()], ModelSpec())
    with pytest.raises(
        ClientUsageError, match=r"takes images DT_UINT8 \[N, 28, 28\], and no tf.Examples: infer runs this one"
    ):
        connection.classify(EXAMPLES)


def test_a_value_is_quoted_at_its_beginning() -> None:
    """A hundred characters of it, the rule, and the types of its items in their order."""
    with pytest.raises(ClientUsageError) as raised:
        example({"x": [1, "a" * 200]})
    assert str(raised.value) == (
        "the feature `x` takes text or bytes, int64, or floats, one or a flat list of them: "
        f"[1, '{'a' * 95}: got int, str"
    )
