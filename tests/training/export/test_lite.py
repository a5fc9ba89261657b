"""`model.tflite`: what LiteRT runs, and what TF Serving reads of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from tensorflow.lite.python.convert import ConverterError

from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from serving.apis.messages import SavedModel, SignatureDef
from tests.support.exports import children, invoke, make_run, manifest, pictures, small_model
from training.errors import TrainingError
from training.export.lite import converted_signatures, write_lite_model
from training.export.signatures import write_saved_model
from training.fit import models, networks


def flat_model(layer: Callable[[Any], Any]) -> keras.Model:
    """A model with an operation of its own before its one dense layer."""
    images = keras.Input(IMAGE_SHAPE)
    outputs = layer(keras.layers.Flatten()(images))
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(outputs))


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Doubles its input three times, in a loop of the graph."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The input, eight times as large."""
        return tf.while_loop(lambda turn, _: turn < 3, lambda turn, x: (turn + 1, x + x), (0, inputs))[1]


@keras.saving.register_keras_serializable("tests")
class IncompleteGamma(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """An operation that LiteRT has not."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The lower incomplete gamma function."""
        return tf.math.igamma(inputs + 1, inputs)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "sequential": small_model,
    "functional": functools.partial(models.build, "mlp", "functional"),
    "subclassed": functools.partial(models.build, "mlp", "subclassed"),
    "perceptron": functools.partial(models.build, "perceptron"),
    "convolutions": networks.teacher,
    "loop": lambda: flat_model(Doubled()),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> keras.Model:
    """A model of every kind that this project makes, and one whose graph has graphs of its own."""
    keras.utils.set_random_seed(7)
    return MODELS[request.param]()


def flatbuffer(version: Path) -> Any:
    """The model's records."""
    return schema.ModelT.InitFromPackedBuf((version / LITE_MODEL_FILE).read_bytes())


def test_litert_answers_as_keras_does(model: keras.Model, tmp_path: Path) -> None:
    """Both signatures, by our names, with batches of any size one after another."""
    write_saved_model(model, tmp_path)
    write_lite_model(tmp_path)
    interpreter = Interpreter(str(tmp_path / LITE_MODEL_FILE))
    for rows in (3, 1, 17):
        images = pictures(rows, seed=rows)
        scaled = images / np.float32(255)
        probabilities = model.predict(scaled, verbose=0)
        answer = interpreter.get_signature_runner("serving_default")(images=images)
        assert answer.keys() == {"probabilities", "class_ids", "class_names"}
        np.testing.assert_allclose(answer["probabilities"], probabilities, rtol=0, atol=1e-5)
        class_ids = answer["probabilities"].argmax(axis=1)
        assert (answer["class_ids"].dtype, answer["class_ids"].tolist()) == (np.int64, class_ids.tolist())
        assert answer["class_names"].tolist() == [CLASS_NAMES[class_id].encode() for class_id in class_ids]
        (only,) = interpreter.get_signature_runner("float_images")(images=scaled).values()
        np.testing.assert_allclose(only, probabilities, rtol=0, atol=1e-5)


def test_the_file_needs_nothing_but_litert(exported_version: Path) -> None:
    """Operations that are built in, each weight once and unquantised, everything aligned for the processor."""
    model = flatbuffer(exported_version)
    assert [code.customCode for code in model.operatorCodes if code.customCode] == []
    types = {tensor.type for subgraph in model.subgraphs for tensor in subgraph.tensors}
    float32, int32, uint8, int64, string = (
        getattr(schema.TensorType, name) for name in ("FLOAT32", "INT32", "UINT8", "INT64", "STRING")
    )
    assert types == {float32, int32, uint8, int64, string}
    content = (exported_version / LITE_MODEL_FILE).read_bytes()
    assert content.count(small_model().get_weights()[0].T.tobytes()) == 1
    assert len(content) < 4 * small_model().count_params() + 10_000
    packed = schema.Model.GetRootAs(content)
    start = np.frombuffer(content, np.uint8).ctypes.data
    for buffer in map(packed.Buffers, range(packed.BuffersLength())):
        assert buffer.DataIsNone() or (buffer.DataAsNumpy().ctypes.data - start) % 16 == 0


def test_tf_serving_reads_the_signature_from_the_metadata(exported_version: Path) -> None:
    """The SavedModel's definition, whose names are tensors of the first subgraph; early versions end it at a NUL."""
    model = flatbuffer(exported_version)
    (index,) = (record.buffer for record in model.metadata if record.name == b"signature_defs_metadata")
    signatures = flexbuffers.GetRoot(bytes(model.buffers[index].data)).AsMap
    assert [key.AsKey for key in signatures.Keys] == ["serving_default"]
    assert signatures.Values[0].IsString
    serialized = bytes(signatures.Values[0].AsStringBytes)
    assert b"\0" not in serialized
    definition = SignatureDef.FromString(serialized)
    first = model.subgraphs[0]
    for tensors, infos in ((first.inputs, definition.inputs), (first.outputs, definition.outputs)):
        names = sorted(first.tensors[tensor].name.decode() for tensor in tensors)
        # Where there is no metadata, TF Serving takes a tensor's name for the signature's.
        assert names == sorted(info.name for info in infos.values()) == sorted(infos)
    saved_model = SavedModel.FromString((exported_version / SAVED_MODEL_FILE).read_bytes())
    expected = saved_model.meta_graphs[0].signature_def["serving_default"]
    for infos in (expected.inputs, expected.outputs):
        for name in infos:
            infos[name].name = name
    assert definition == expected


def test_without_it_a_version_is_what_it_was(run: Path, base: Path, steps_here: None) -> None:
    """--no-lite: no file, nothing of it in the manifest, and the self-test is TensorFlow's."""
    result = invoke("export", run, "--model-base-path", base, "--no-lite")
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    assert re.fullmatch(
        r"Self-test passed: 4 signatures answer as the trained model does, within \d\.\de-\d\d\n", result.stderr
    )
    assert not (base / "1" / LITE_MODEL_FILE).exists()
    record = manifest(base / "1")
    assert LITE_MODEL_FILE not in record["files"]
    assert record["self_test"]["litert_largest_differences"] == {}


def test_a_model_that_litert_cannot_run_is_one_line(base: Path, tmp_path: Path, steps_here: None) -> None:
    """It names the operation and the option, and nothing stays behind; with the option it is exported."""
    run = make_run(tmp_path / "gamma", model=flat_model(IncompleteGamma()))
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    reason = f"Not published, {LITE_MODEL_FILE} cannot be made: LiteRT has no operation Igamma"
    assert result.stderr == f"Error: {reason}: --no-lite exports without it\n"
    assert children(base) == []
    assert invoke("export", run, "--model-base-path", base, "--no-lite").exit_code == 0


def test_the_garments_decoders_are_left_to_tensorflow() -> None:
    """Of their four signatures two are converted; of another model all, by name."""
    assert converted_signatures(["classify", "float_images", "encoded_images", "serving_default"]) == [
        "serving_default",
        "float_images",
    ]
    assert converted_signatures(["float_images", "classify"]) == ["classify", "float_images"]
    assert converted_signatures(iter(["b", "a", "serving_default"])) == ["a", "b", "serving_default"]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            (
                "x: 'tf.Igamma' op is neither a custom op nor a flex op\n"
                "y: 'tf.Bincount' op is neither a custom op nor a flex op\n"
                "z: 'tf.Igamma' op is neither a custom op nor a flex op"
            ),
            "LiteRT has no operation Bincount, Igamma",
        ),
        ("\n  \n the first \nthe second", "the first"),
        ("\n", "no reason was given"),
        ('a.py:3: error: loc(callsite("x"("y") at "z")): it is too large', "it is too large"),
        ("error: plain", "error: plain"),
    ],
)
def test_one_line_of_what_the_converter_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, reason: str
) -> None:
    """The operations that LiteRT lacks, or the first line that says something, without the place in the graph."""

    def fail(*_: object, **__: object) -> None:
        raise ConverterError(told)

    saved_model = SavedModel()
    saved_model.meta_graphs.add()
    (tmp_path / SAVED_MODEL_FILE).write_bytes(saved_model.SerializeToString())
    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fail)
    with pytest.raises(TrainingError) as error:
        write_lite_model(tmp_path)
    assert str(error.value) == reason
