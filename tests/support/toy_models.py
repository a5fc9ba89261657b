"""Toy SavedModels with exact answers, written by a process of their own: `python toy_models.py DIRECTORY`.

- half_plus_two/1, half_plus_two/2: y = x / 2 + bias, bias 2 and 3; outputs y and bias; batched by rows.
- row_mixer/1: y = x - mean(x) over the batch: merging requests would change its answers.
- many_types/1: the identity of rarer dtypes, a quantized one among them.
- tf1/00000123: an export of TensorFlow 1 with predict, classify and regress signatures and a variable, and one with a
  method name that TF Serving does not know.
- assets/1: looks words up in an asset file.
- big_answers/1: 10 MB of zeros for each row.
- gate/1: gives the path of a file back once the file is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf


def main(directory: Path) -> None:
    """Writes all models."""
    write_half_plus_two(directory)
    write_others(directory)
    write_tf1(directory / "tf1" / "00000123")


def write_half_plus_two(directory: Path) -> None:
    """Two versions that can be told from their answers."""
    for version, bias in ((1, 2.0), (2, 3.0)):
        _write_half_plus(directory / "half_plus_two" / str(version), bias)


def _write_half_plus(path: Path, bias: float) -> None:
    module = tf.Module()
    module.bias = tf.Variable(bias)

    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + module.bias, "bias": tf.ones_like(x) * module.bias}

    _save(path, predict, [tf.TensorSpec([None], tf.float32, name="x")], module)


def write_others(directory: Path) -> None:
    """The models that have one version."""

    def mix(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x - tf.reduce_mean(x)}

    _save(directory / "row_mixer" / "1", mix, [tf.TensorSpec([None], tf.float32, name="x")])

    names = ("bfloat16", "half", "int8", "int16", "uint16", "uint32", "uint64", "complex64", "complex128", "qint8")
    specs = {name: tf.TensorSpec([None], tf.dtypes.as_dtype(name), name=name) for name in names}

    def identity(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {f"{name}_out": tf.identity(value) for name, value in values.items()}

    _save(directory / "many_types" / "1", identity, [specs])

    vocabulary = directory / "words.txt"
    vocabulary.write_text("zero\none\ntwo\n")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(vocabulary))
    module.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            module.asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        ),
        1,
    )

    def look_up(words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"ids": module.table.lookup(words)}

    _save(directory / "assets" / "1", look_up, [tf.TensorSpec([None], tf.string, name="words")], module)

    def zeros(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.zeros([tf.size(x), 2_621_440])}

    _save(directory / "big_answers" / "1", zeros, [tf.TensorSpec([None], tf.float32, name="x")])

    def gate(path: tf.Tensor) -> dict[str, tf.Tensor]:
        matches = tf.constant([], tf.string)
        while tf.equal(tf.size(matches), 0):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(matches, tf.TensorShape([None]))])
            # An optimizer may look once, ahead of the loop, for a path that no round has a part in: each adds nothing.
            matches = tf.io.matching_files(path + tf.strings.reduce_join(matches))
        return {"path": matches}

    _save(directory / "gate" / "1", gate, [tf.TensorSpec([None], tf.string, name="path")])


def _save(
    path: Path, function: Callable[..., dict[str, tf.Tensor]], specs: list[Any], module: tf.Module | None = None
) -> None:
    """Writes a function as serving_default. module: what holds its variables and assets."""
    module = module or tf.Module()
    module.function = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures=module.function)


def write_tf1(path: Path) -> None:
    """An export as TensorFlow 1 made them: a graph, a session, a builder."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        slope = v1.get_variable("slope", initializer=0.5, use_resource=False)
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(x * slope, 2.0, name="y")
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        scores = tf.add(parsed * slope, 2.0, name="scores")
        session.run(v1.global_variables_initializer())
        utils = v1.saved_model.signature_def_utils
        infos = {"inputs": v1.saved_model.build_tensor_info(examples)}
        out = v1.saved_model.build_tensor_info(scores)
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": utils.predict_signature_def({"x": x}, {"y": y}),
                "classify_x_to_y": utils.build_signature_def(infos, {"scores": out}, "tensorflow/serving/classify"),
                "regress_x_to_y": utils.build_signature_def(infos, {"outputs": out}, "tensorflow/serving/regress"),
                "own_method": utils.build_signature_def(
                    {"x": v1.saved_model.build_tensor_info(x)}, {"y": v1.saved_model.build_tensor_info(y)}, "toys/own"
                ),
            },
        )
        builder.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
