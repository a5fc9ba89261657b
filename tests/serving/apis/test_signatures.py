"""Signatures as a model's metadata tell them."""

from __future__ import annotations

import pytest

from serving.apis import messages
from serving.apis.signatures import Signature, TensorInfo, signatures


@pytest.mark.parametrize(
    ("shape", "text"), [((), "[]"), ((-1, 28, 1), "[N, 28, 1]"), ((0, 3), "[0, 3]"), (None, "[...]")]
)
def test_a_shape_for_people(shape: tuple[int, ...] | None, text: str) -> None:
    """A free size is N; of any rank there is no telling."""
    assert str(TensorInfo("DT_FLOAT", shape)) == text


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("tensorflow/serving/predict", "predict"),
        ("tensorflow/serving/classify", "classify"),
        ("regress", "regress"),
        ("tensorflow/serving/other", "predict"),
        ("", "predict"),
    ],
)
def test_how_a_signature_is_asked(name: str, method: str) -> None:
    """By its method, or by Predict, which takes any."""
    assert Signature({}, {}, name).method == method


def test_those_that_can_be_run_by_name() -> None:
    """Not TensorFlow's own; their tensors by name, too."""
    definition = messages.SignatureDef(method_name="tensorflow/serving/predict")
    for name, dtype, sizes in (("b", messages.DT_STRING, [-1]), ("a", messages.DT_FLOAT, [2, 3])):
        info = definition.inputs[name]
        info.dtype = dtype
        for size in sizes:
            info.tensor_shape.dim.add(size=size)
    definition.outputs["y"].dtype = messages.DT_INT64
    definition.outputs["y"].tensor_shape.unknown_rank = True
    found = signatures({"two": definition, "__saved_model_init_op": messages.SignatureDef(), "one": definition})
    expected = Signature(
        {"a": TensorInfo("DT_FLOAT", (2, 3)), "b": TensorInfo("DT_STRING", (-1,))},
        {"y": TensorInfo("DT_INT64", None)},
        "tensorflow/serving/predict",
    )
    assert found == {"one": expected, "two": expected}
    assert list(found) == ["one", "two"]
    assert list(found["one"].inputs) == ["a", "b"]
