"""A SavedModel as a servable in this process: what it gives, what it remembers, and its errors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.apis.messages import DT_FLOAT, DT_QINT8, SignatureDef
from serving.apis.status import Code
from serving.embedded.loading.tensorflow import saved_model
from serving.embedded.loading.tensorflow.saved_model import _array, _quantized_tensors, load, serving_error
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServingError

X = np.array([1.0, 4.0], np.float32)


def version(toys: Path, name: str) -> VersionDirectory:
    """The first version of a toy model."""
    return VersionDirectory(toys / name / "1")


def test_a_model_gives_what_it_is_asked_for(toys: Path) -> None:
    """In that order, any outputs; 64 subsets of them are remembered until it is closed."""
    model = load(version(toys, "half_plus_two"))
    definition = model.signatures["serving_default"]
    x, y = definition.inputs["x"].name, definition.outputs["y"].name
    assert model.runtime == "TF1"
    assert y in model.loop_free
    for count in range(1, 67):
        assert [value.tolist() for value in model.run({x: X}, [y] * count)] == [[2.5, 4.0]] * count
        assert len(model._callables) == min(count, 64)
    known = dict(model._callables)
    model.run({x: X}, [y])
    assert model._callables == known
    model.close()
    assert model._callables == {}
    with pytest.raises(ServingError) as raised:
        model.run({x: X}, [y])
    assert (raised.value.code, str(raised.value)) == (Code.CANCELLED, "Session has been closed.")


def test_the_first_calls_at_once_make_one_callable(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each the graph would be optimized anew, in memory of its own."""
    model = load(version(toys, "half_plus_two"))
    definition = model.signatures["serving_default"]
    x, y = definition.inputs["x"].name, definition.outputs["y"].name
    begun = threading.Barrier(4)
    make, made, again = model._session._make_callable_from_options, [], threading.Event()

    def slow(options: Any) -> Any:
        made.append(options)
        if len(made) > 1:
            again.set()
        again.wait(0.3)
        return make(options)

    def first(_: int) -> Any:
        begun.wait(10)
        return model.run({x: X}, [y])[0].tolist()

    monkeypatch.setattr(model._session, "_make_callable_from_options", slow)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(first, range(4))) == [[2.5, 4.0]] * 4
    assert len(made) == 1
    model.close()


def test_errors_of_a_run_are_tensorflows(toys: Path) -> None:
    """With its code and text; what Python says of an input is the caller's fault too."""
    model = load(version(toys, "half_plus_two"))
    definition = model.signatures["serving_default"]
    x, y = definition.inputs["x"].name, definition.outputs["y"].name
    for feeds, fetches, text in (
        ({x: X.astype(np.float64)}, [y], "Type mismatch: actual double vs. expect float"),
        ({}, [y], "You must feed a value for placeholder tensor"),
        ({x: X}, ["nope:0"], "nope"),
    ):
        with pytest.raises(ServingError) as raised:
            model.run(feeds, fetches)
        assert raised.value.code == Code.INVALID_ARGUMENT
        assert text in str(raised.value)
    model.close()


def test_the_code_and_text_of_an_error() -> None:
    """The message alone, without where in the graph it was; where there is none, all that is known."""
    error = serving_error(tf.errors.NotFoundError(None, None, "no such file"))
    assert (error.code, str(error)) == (Code.NOT_FOUND, "no such file")
    empty = tf.errors.AbortedError(None, None, "")
    assert serving_error(empty).code == Code.ABORTED


def test_a_single_string_is_an_array_too() -> None:
    """Without a shape; quantized types are the numbers that they have."""
    single = _array(b"text")
    assert single.dtype == object
    assert single.shape == ()
    assert single.tolist() == b"text"
    quantized = np.array([(1,), (-2,)], tf.qint8.as_numpy_dtype)
    assert _array(quantized).tolist() == [1, -2]
    assert _array(X) is X


def test_inputs_of_a_quantized_type_are_fed_as_tensorflow_has_them() -> None:
    """By the tensor's name; others as they are."""
    definition = SignatureDef()
    for name, data_type in (("q", DT_QINT8), ("x", DT_FLOAT)):
        definition.inputs[name].name, definition.inputs[name].dtype = f"{name}:0", data_type
    definition.outputs["p"].name, definition.outputs["p"].dtype = "p:0", DT_QINT8
    assert _quantized_tensors({"s": definition}) == {"q:0": np.dtype(tf.qint8.as_numpy_dtype)}


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (None, Code.INVALID_ARGUMENT, "{} cannot be loaded: SavedModel file does not exist at: {}"),
        (b"\xff", Code.INVALID_ARGUMENT, "{} cannot be loaded: "),
        (
            b"",
            Code.INVALID_ARGUMENT,
            "{} cannot be loaded: MetaGraphDef associated with tags 'serve' could not be found",
        ),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, content: bytes | None, code: Code, text: str) -> None:
    """It is named with TensorFlow's reason; the session that was made for it is closed."""
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ServingError) as raised:
        load(VersionDirectory(tmp_path))
    assert raised.value.code == code
    assert str(raised.value).startswith(text.replace("{}", str(tmp_path)))


def test_the_version_of_tensorflow() -> None:
    """For --version."""
    assert saved_model.library_version() == tf.__version__
