"""Toy SavedModels with exact answers, written by a process of their own: `python toy_models.py DIRECTORY`.

- half_plus_two/1, half_plus_two/2: y = x / 2 + bias, bias 2 and 3; outputs y and bias; batched by rows.
- row_mixer/1: y = x - mean(x) over the batch: merging requests would change its answers.
- quantized/1, many_types/1: identities of rarer dtypes.
- tf1/00000123: an export of TensorFlow 1 with predict, classify and regress signatures and a variable, and one with a
  method name that TF Serving does not know.
- assets/1: looks words up in an asset file.
- gate/1: gives the path of a file back once the file is there.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Writes all models."""
    write_half_plus_two(directory)
    write_others(directory)
    write_tf1(directory / "tf1" / "00000123")


def write_half_plus_two(directory: Path) -> None:
    """Two versions that can be told from their answers."""
    import tensorflow as tf

    class HalfPlus(tf.Module):
        def __init__(self, bias: float) -> None:
            super().__init__()
            self.bias = tf.Variable(bias)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x / 2 + self.bias, "bias": tf.ones_like(x) * self.bias}

    for version, bias in ((1, 2.0), (2, 3.0)):
        module = HalfPlus(bias)
        tf.saved_model.save(module, str(directory / "half_plus_two" / str(version)), signatures=module.predict)


def write_others(directory: Path) -> None:
    """The models that have one version."""
    import tensorflow as tf

    def save(name: str, function: tf.types.experimental.GenericFunction, module: tf.Module | None = None) -> None:
        module = module or tf.Module()
        module.function = function
        tf.saved_model.save(module, str(directory / name / "1"), signatures=function)

    def spec(dtype: tf.DType, shape: tuple[int | None, ...] = (None,)) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def mix(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x - tf.reduce_mean(x)}

    save("row_mixer", mix)

    names = ("bfloat16", "half", "int8", "int16", "uint16", "uint32", "uint64", "complex64", "complex128", "qint8")
    dtypes = {name: tf.dtypes.as_dtype(name) for name in names}

    @tf.function(input_signature=[{name: tf.TensorSpec([None], dtype, name=name) for name, dtype in dtypes.items()}])
    def identity(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {f"{name}_out": tf.identity(value) for name, value in values.items()}

    save("many_types", identity)

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

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def look_up(words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"ids": module.table.lookup(words)}

    save("assets", look_up, module)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="path")])
    def gate(path: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.constant([], tf.string)
        while tf.equal(tf.size(found), 0):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(found, tf.TensorShape([None]))])
            # An optimizer may look once, ahead of the loop, for a path that no round has a part in: each adds nothing.
            found = tf.io.matching_files(path + tf.strings.reduce_join(found))
        return {"path": found}

    save("gate", gate)


def write_tf1(path: Path) -> None:
    """An export as TensorFlow 1 made them: a graph, a session, a builder."""
    import tensorflow as tf

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
