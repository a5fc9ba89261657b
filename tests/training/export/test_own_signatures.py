"""What models of other people's are tested and warmed up with: made from their signatures, or taken from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.apis.messages import PredictionLog
from serving.apis.self_test import Case
from serving.apis.tensors import make_ndarray
from training.export.own_signatures import OwnSignatures

Specs = Mapping[str, tf.TensorSpec]


def served(function: Any, golden: Mapping[str, Case] | None = None, **specs: tf.TensorSpec) -> OwnSignatures:
    """A model of one signature, `serving_default`, with these inputs."""
    return OwnSignatures({"serving_default": function}, {"serving_default": specs}, golden or {})


def first(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """What all inputs are, as text."""
    return {"number": tf.constant([len(inputs)])}


def spec(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
    """An input."""
    return tf.TensorSpec(shape, dtype)


KINDS: list[tuple[tf.DType, set[Any] | tuple[float, float]]] = [
    (tf.float32, (0.0, 1.0)),
    (tf.float16, (0.0, 1.0)),
    (tf.complex64, (0.0, 1.0)),
    (tf.int64, {0, 1}),
    (tf.int8, {0, 1}),
    (tf.bool, {False, True}),
    (tf.string, {b"0", b"1"}),
    (tf.uint8, set(range(256))),
]


@pytest.mark.parametrize(("dtype", "values"), KINDS)
def test_inputs_are_made_by_their_dtype(dtype: tf.DType, values: set[Any] | tuple[float, float]) -> None:
    """Of the signature's own; all values that there are come, and every time the same."""
    shape = (None, 64, 64) if dtype == tf.uint8 else (None, 16)
    case, again = (served(first, x=spec(dtype, *shape)).golden_cases()["serving_default"] for _ in range(2))
    made = case.inputs["x"]
    assert made.dtype == (object if dtype == tf.string else dtype.as_numpy_dtype)
    np.testing.assert_array_equal(made, again.inputs["x"])
    if isinstance(values, set):
        assert set(made.ravel().tolist()) == values
    else:
        assert values[0] <= np.abs(made).min() < 0.2
        assert 0.8 < np.abs(made).max() <= values[1]
    assert {name: array.tolist() for name, array in case.outputs.items()} == {"number": [1]}


@pytest.mark.parametrize(
    ("shape", "made"),
    [
        ((None, 3), (4, 3)),
        ((None, None, 2), (4, 32, 2)),
        ((2, None), (2, 32)),
        ((5,), (5,)),
        ((None,), (4,)),
        ((), ()),
    ],
)
@pytest.mark.parametrize("dtype", [tf.float32, tf.int32, tf.string])
def test_inputs_have_four_rows(shape: tuple[int | None, ...], made: tuple[int, ...], dtype: tf.DType) -> None:
    """And 32 of every other size that is left open."""
    case = served(first, x=spec(dtype, *shape)).golden_cases()["serving_default"]
    assert case.inputs["x"].shape == made


def test_inputs_are_made_in_the_order_of_their_names() -> None:
    """However the signature lists them."""
    one = served(first, a=spec(tf.float32, 2), b=spec(tf.float32, 2)).golden_cases()["serving_default"].inputs
    other = served(first, b=spec(tf.float32, 2), a=spec(tf.float32, 2)).golden_cases()["serving_default"].inputs
    for name in "ab":
        np.testing.assert_array_equal(one[name], other[name])
    assert one["a"].tolist() != one["b"].tolist()


def failing(**_: tf.Tensor) -> dict[str, tf.Tensor]:
    """Says why in several lines."""
    raise ValueError("Graph execution error:\n\nthe reason\n\t [[{{node x}}]]\n\n")


class Counting:
    """Answers otherwise each time."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, **_: tf.Tensor) -> dict[str, tf.Tensor]:
        """The next number."""
        self._count += 1
        return {"y": tf.constant([float(self._count)])}


UNTESTED: list[tuple[Any, tf.TensorSpec, str]] = [
    (failing, spec(tf.float32, 2), "the reason"),
    (first, tf.TensorSpec(None, tf.float32), "input x may have any shape"),
    (first, spec(tf.bfloat16, 2), "x is bfloat16, which no NumPy archive holds"),
    (lambda x: {"y": tf.cast(x, tf.bfloat16)}, spec(tf.float32, 2), "y is bfloat16, which no NumPy archive holds"),
    (
        lambda x: {"y": x / 0},
        spec(tf.float32, 2),
        "output y is not finite for inputs made from the signature",
    ),
]


@pytest.mark.parametrize(("function", "taken", "reason"), UNTESTED)
def test_a_signature_that_cannot_be_tested_is_noted(function: Any, taken: tf.TensorSpec, reason: str) -> None:
    """With the reason in one line, and what helps; it has no case and no warmup request."""
    model = served(function, x=taken)
    assert model.untested == {"serving_default": reason}
    assert model.notes == [
        (
            "serving_default is not tested, as it cannot be run on inputs made from its signature: "
            f"{reason}: --golden FILE.npz gives others"
        )
    ]
    assert model.golden_cases() == {}
    assert list(model.warmup_records("m", 1)) == []


def test_a_signature_that_answers_otherwise_each_time_is_noted() -> None:
    """It could not be held to anything."""
    [reason] = served(Counting(), x=spec(tf.float32, 2)).untested.values()
    assert reason.endswith(" when it is asked twice")


def test_an_error_without_a_text_has_its_kind() -> None:
    """As the reason."""

    def silent(**_: tf.Tensor) -> None:
        raise NotImplementedError

    assert served(silent, x=spec(tf.float32, 2)).untested == {"serving_default": "NotImplementedError"}


def test_cases_of_a_file_take_the_place_of_those_that_would_be_made() -> None:
    """The signature is not run on others then; every signature has its own, in the order of their names."""
    case = Case({"x": np.ones((2, 2), np.float32)}, {"y": np.zeros(2)})
    model = OwnSignatures(
        {"b": first, "a": failing, "c": failing},
        {name: {"x": spec(tf.float32, None, 2)} for name in "abc"},
        {"a": case},
    )
    assert list(model.golden_cases()) == ["a", "b"]
    assert model.golden_cases()["a"] is case
    assert list(model.untested) == ["c"]
    assert list(model.functions()) == ["b", "a", "c"]


def asked(model: OwnSignatures, size: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Model, signature and inputs of each warmup request of a batch size."""

    def told(record: PredictionLog) -> tuple[str, str, dict[str, Any]]:
        request = record.predict_log.request
        inputs = {name: make_ndarray(tensor).tolist() for name, tensor in request.inputs.items()}
        return request.model_spec.name, request.model_spec.signature_name, inputs

    return [told(record) for record in model.warmup_records("m", size)]


def test_warmup_repeats_the_first_row() -> None:
    """As often as the batch is large; where the number of rows is fixed it gets them all."""
    rows = np.array([[1.0], [2.0]], np.float32)
    case = Case({"x": rows, "z": 3 * rows}, {"y": np.zeros(2)})
    open_rows = served(first, {"serving_default": case}, x=spec(tf.float32, None, 1), z=spec(tf.float32, None, 1))
    assert asked(open_rows, 1) == [("m", "serving_default", {"x": [[1]], "z": [[3]]})]
    assert asked(open_rows, 3) == [("m", "serving_default", {"x": [[1]] * 3, "z": [[3]] * 3})]
    fixed = served(first, {"serving_default": case}, x=spec(tf.float32, None, 1), z=spec(tf.float32, 2, 1))
    assert asked(fixed, 3) == [("m", "serving_default", {"x": [[1], [2]], "z": [[3], [6]]})]
    scalar = Case({"x": np.array(5, np.float32)}, {"y": np.zeros(2)})
    assert asked(served(first, {"serving_default": scalar}, x=spec(tf.float32)), 8)[0][2] == {"x": 5.0}


def test_warmup_requests_of_many_bytes_are_left_out() -> None:
    """More than 4 MiB of inputs; one row is asked for whatever it takes."""
    rows = np.zeros((1, 2**19), np.float32)
    case = Case({"x": rows, "z": rows[:, :1]}, {"y": np.zeros(1)})
    exact = served(first, {"serving_default": Case({"x": rows}, case.outputs)}, x=spec(tf.float32, None, 2**19))
    assert len(asked(exact, 2)) == 1
    more = served(first, {"serving_default": case}, x=spec(tf.float32, None, 2**19), z=spec(tf.float32, None, 1))
    assert [len(asked(more, size)) for size in (1, 2)] == [1, 0]
    large = np.zeros((1, 2**20 + 1), np.float32)
    single = served(first, {"serving_default": Case({"x": large}, case.outputs)}, x=spec(tf.float32, None, 2**20 + 1))
    assert len(asked(single, 1)) == 1
