"""Toy models for LiteRT with exact answers, written by a process of their own: `python lite_models.py DIRECTORY`.

Each is a version, NAME/1/model.tflite:

- half_plus_two: y = x / 2 + 2 and bias, x float [N]; version 2 has the bias 3.
- fixed: the same for x [1], and no signature at all.
- named: serving_default and another signature of the same tensors in the metadata, as TF Serving reads them.
- two: signatures `double` and `triple` of two subgraphs, whose tensors have the same names.
- strings: gives the strings back, in a row and in a column, beside numbers.
- row_mixer: y = x - mean(x) over the batch.
- loop: adds 1 to x n times.
- big_answers: 10 MB of zeros for each row.
- old, old_signature: y = x / 2 + 2, x float [1, 1], as early converters wrote it: the tensors have plain names, and the
  only signature, of the second, is in the metadata and names one of them with `:0`.
- tf1: signatures for examples in the metadata, which answer any example with zeros.
- flex: rolls x by an operation of TensorFlow's that LiteRT has not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from serving.apis import messages
from serving.apis.messages import SignatureDef, TensorInfo
from tests.support.lite_files import packed, with_metadata

VECTOR = tf.TensorSpec([None], tf.float32, name="x")


def main(directory: Path) -> None:
    """Writes all models."""
    for version, bias in ((1, 2.0), (2, 3.0)):
        write(directory / "half_plus_two" / str(version), converted({"serving_default": half_plus(bias)}, VECTOR))
    write(directory / "fixed" / "1", without_signatures(converted({"f": half_plus(2.0)}, tf.TensorSpec([1]))))
    write(directory / "named" / "1", named(converted({"f": half_plus(2.0)}, VECTOR)))
    functions = {"double": lambda x: {"y": x * 2}, "triple": lambda x: {"y": x * 3}}
    old = converted({"f": lambda x: {"y": x / 2 + 2}}, tf.TensorSpec([1, 1], name="x"))
    write(directory / "old" / "123", packed(with_plain_names(old, "x", "y")))
    write(directory / "old_signature" / "123", with_old_signature(with_plain_names(old, "tflite_input", "y")))
    write(directory / "two" / "1", same_names(converted(functions, VECTOR)))
    words = tf.TensorSpec([None], tf.string, name="words")
    write(directory / "strings" / "1", converted({"serving_default": echo}, words, tf.TensorSpec([None, 2], name="x")))
    write(directory / "row_mixer" / "1", converted({"serving_default": mix}, VECTOR))
    count = tf.TensorSpec([], tf.int32, name="n")
    write(directory / "loop" / "1", converted({"serving_default": add_often}, VECTOR, count))
    write(directory / "big_answers" / "1", converted({"serving_default": zeros}, VECTOR))
    examples = tf.TensorSpec([None], tf.string, name="examples")
    write(directory / "tf1" / "1", for_examples(converted({"f": scores}, examples)))
    write(directory / "flex" / "1", converted({"serving_default": roll}, VECTOR, flex=True))


def half_plus(bias: float) -> Callable[..., Any]:
    """The toy of TF Serving's own tests."""
    return lambda x: {"y": x / 2 + bias, "bias": tf.ones_like(x) * bias}


def echo(words: tf.Tensor, x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Strings in and out."""
    return {"row": tf.identity(words), "column": tf.reshape(words, [-1, 1]), "y": x * 2}


def mix(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """What one row gives depends on the others."""
    return {"y": x - tf.reduce_mean(x)}


def add_often(x: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
    """How long it takes is in the input's value."""
    _, y = tf.while_loop(lambda i, _: i < n, lambda i, y: (i + 1, y + 1), (tf.constant(0), x))
    return {"y": y}


def zeros(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answers that are much larger than what was asked."""
    return {"y": tf.zeros([tf.shape(x)[0], 2_621_440])}


def scores(examples: tf.Tensor) -> dict[str, tf.Tensor]:
    """A number for each example."""
    return {"scores": tf.zeros([tf.shape(examples)[0], 1])}


def roll(x: tf.Tensor) -> dict[str, tf.Tensor]:
    """What LiteRT has not."""
    return {"y": tf.roll(x, 1, 0)}


def converted(functions: Mapping[str, Callable[..., Any]], *specs: Any, flex: bool = False) -> bytes:
    """Functions of the same inputs as signatures of one file."""
    module = tf.Module()
    module.functions = {name: tf.function(function, input_signature=specs) for name, function in functions.items()}
    signatures = {name: function.get_concrete_function() for name, function in module.functions.items()}
    directory = sys.argv[1] + "/saved_model"
    tf.saved_model.save(module, directory, signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=list(functions))
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    content: bytes = converter.convert()
    return content


def without_signatures(content: bytes) -> bytes:
    """A model as earlier converters wrote it."""
    model = schema.ModelT.InitFromPackedBuf(content)
    model.signatureDefs = []
    return packed(model)


def named(content: bytes) -> bytes:
    """A model as TF Serving reads it: the converter's own signature is gone."""
    model = schema.ModelT.InitFromPackedBuf(content)
    [own] = model.signatureDefs
    model.signatureDefs = []
    graph = model.subgraphs[0]
    infos = {
        entry.name.decode(): TensorInfo(name=graph.tensors[entry.tensorIndex].name.decode(), dtype=messages.DT_FLOAT)
        for entry in (*own.inputs, *own.outputs)
    }
    method = "tensorflow/serving/predict"
    default = SignatureDef(inputs={"in": infos["x"]}, outputs={"out": infos["y"]}, method_name=method)
    other = SignatureDef(inputs={"x": infos["x"]}, outputs={"bias": infos["bias"]}, method_name=method)
    return with_metadata(model, {"serving_default": default.SerializeToString(), "other": other.SerializeToString()})


def with_plain_names(content: bytes, *names: str) -> Any:
    """A model without signatures; names: of its input and its output."""
    model = schema.ModelT.InitFromPackedBuf(content)
    model.signatureDefs = []
    graph = model.subgraphs[0]
    for name, number in zip(names, (*graph.inputs, *graph.outputs), strict=True):
        graph.tensors[number].name = name
    return model


def with_old_signature(model: Any) -> bytes:
    """A model whose metadata has the name that its input had in TensorFlow."""
    definition = SignatureDef(
        inputs={"x": TensorInfo(name="tflite_input:0", dtype=messages.DT_FLOAT)},
        outputs={"y": TensorInfo(name="y:0", dtype=messages.DT_FLOAT)},
        method_name="tensorflow/serving/predict",
    )
    return with_metadata(model, {"serving_default": definition.SerializeToString()})


def for_examples(content: bytes) -> bytes:
    """A model with the signatures for examples that the SavedModel of the same name has."""
    model = schema.ModelT.InitFromPackedBuf(content)
    [own] = model.signatureDefs
    tensors = model.subgraphs[0].tensors
    [examples], [output] = (
        [TensorInfo(name=tensors[entry.tensorIndex].name.decode(), dtype=dtype) for entry in entries]
        for entries, dtype in ((own.inputs, messages.DT_STRING), (own.outputs, messages.DT_FLOAT))
    )
    definitions = {
        f"{kind}_x_to_y": SignatureDef(
            inputs={"inputs": examples}, outputs={alias: output}, method_name=f"tensorflow/serving/{kind}"
        ).SerializeToString()
        for kind, alias in (("classify", "scores"), ("regress", "outputs"))
    }
    model.signatureDefs = []
    return with_metadata(model, definitions)


def same_names(content: bytes) -> bytes:
    """A model whose tensors have their aliases as names."""
    model = schema.ModelT.InitFromPackedBuf(content)
    for signature in model.signatureDefs:
        for entry in (*signature.inputs, *signature.outputs):
            model.subgraphs[signature.subgraphIndex].tensors[entry.tensorIndex].name = entry.name
    return packed(model)


def write(version: Path, content: bytes) -> None:
    """Writes a version that is nothing but its model."""
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
