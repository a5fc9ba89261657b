"""The signatures of the served model: four over one set of weights, with preprocessing in the graph.

`classify` answers TF Serving's Classify API, whose contract is in
https://www.tensorflow.org/tfx/serving/signature_defs#classification_signaturedef
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from fashion_common.layout import SAVED_MODEL_FILE
from fashion_common.served_model import CLASS_NAMES
from serving.apis.self_test import Array
from training.export.decoding import IMAGE_SIZE, decode

if TYPE_CHECKING:
    # The self-test's process needs none.
    import keras


def served_signatures(model: keras.Model) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The traced function of every signature, by the signature's name; all of them run the same weights.

    - `serving_default`: `images` uint8 [N, 28, 28], 0 to 255 -> `probabilities` float32 [N, 10], `class_ids` int64 [N],
      `class_names` string [N]
    - `encoded_images`: `image_bytes` string [N], each a PNG, JPEG, GIF (first frame) or BMP -> the same three
    - `float_images`: `images` float32 [N, 28, 28], 0 to 1 -> `probabilities`
    - `classify`: `inputs` string [N], each a tf.Example with the bytes feature `image/encoded` -> `classes` string
      [N, 10] and `scores` float32 [N, 10], both in label order
    """
    names = tf.constant(CLASS_NAMES)

    def call(images: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.cast(model(images, training=False), tf.float32), [None, len(CLASS_NAMES)])

    probabilities = tf.function(call, autograph=False)
    decode_files = tf.function(decode, autograph=False)

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = probabilities(scale(images))
        class_ids = tf.argmax(rows, axis=1, output_type=tf.int64)
        return {"probabilities": rows, "class_ids": class_ids, "class_names": tf.gather(names, class_ids)}

    def encoded_images(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving_default(decode_files(image_bytes))

    def float_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities(images)}

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        scores = probabilities(scale(decode_files(examples["image/encoded"])))
        return {"classes": tf.tile(names[tf.newaxis], [tf.shape(scores)[0], 1]), "scores": scores}

    images = [None, IMAGE_SIZE, IMAGE_SIZE]
    specs = {
        serving_default: tf.TensorSpec(images, tf.uint8, "images"),
        encoded_images: tf.TensorSpec([None], tf.string, "image_bytes"),
        float_images: tf.TensorSpec(images, tf.float32, "images"),
        classify: tf.TensorSpec([None], tf.string, "inputs"),
    }
    return {
        function.__name__: tf.function(function, autograph=False).get_concrete_function(spec)
        for function, spec in specs.items()
    }


def write_saved_model(model: keras.Model, path: Path) -> None:
    """Writes the model with its signatures as the SavedModel directory `path`. Raises OSError.

    As in `save`.
    """
    save(
        path, served_signatures(model), model.variables, method_names={"classify": tf.saved_model.CLASSIFY_METHOD_NAME}
    )


def save(
    path: Path,
    functions: Mapping[str, Any],
    variables: Sequence[keras.Variable],
    resources: Sequence[Any] = (),
    *,
    method_names: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes a SavedModel with these signatures. Raises OSError, OpError, and AssertionError for state that is missing.

    It is saved as a module of the model's variables, not as the Keras model: every weight is written once, and
    `tf.saved_model.load` needs no code of ours to load it. resources: what the graph uses besides, such as lookup
    tables. method_names: of the signatures that are not for Predict, by which a server finds them:
    `tf.saved_model.save` writes Predict's everywhere.

    The fingerprint is written anew: TensorFlow's is of the file before that, and has a random number in it.
    """
    module = tf.Module(name="served_model")
    module.weights = [variable.value for variable in variables]
    if resources:
        module.resources = list(resources)
    tf.saved_model.save(module, str(path), signatures=functions)
    saved_model = _read(path)
    for name, method_name in method_names.items():
        saved_model.meta_graphs[0].signature_def[name].method_name = method_name
    (path / SAVED_MODEL_FILE).write_bytes(saved_model.SerializeToString(deterministic=True))
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(path)))
    fingerprint.uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, str(fingerprint.saved_model_checksum)).int)
    (path / "fingerprint.pb").write_bytes(fingerprint.SerializeToString(deterministic=True))


def scale(images: tf.Tensor) -> tf.Tensor:
    """uint8 [N, 28, 28], 0 to 255 -> float32 [N, 28, 28], 0 to 1, as in training."""
    return tf.cast(images, tf.float32) / 255.0


def run(function: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a signature's function for its inputs, by name. Raises TypeError, ValueError, OpError."""
    outputs = function(**{name: tf.constant(array) for name, array in inputs.items()})
    arrays = {name: output.numpy() for name, output in outputs.items()}
    # A string without rows is no array for TensorFlow.
    return {name: np.array(array, object) if isinstance(array, bytes) else array for name, array in arrays.items()}


def describe_signatures(path: Path) -> dict[str, Any]:
    """Every signature of a SavedModel: its method name, and each tensor's dtype and shape.

    None is any size in a shape, and any shape. Raises OSError, DecodeError.
    """
    signatures = _read(path).meta_graphs[0].signature_def
    return {
        name: {
            "method_name": signatures[name].method_name,
            "inputs": _tensors(signatures[name].inputs),
            "outputs": _tensors(signatures[name].outputs),
        }
        for name in sorted(signatures)
        if not name.startswith("__")
    }


def _tensors(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "dtype": tf.dtypes.as_dtype(infos[name].dtype).name,
            "shape": None if (shape := tf.TensorShape(infos[name].tensor_shape)).rank is None else shape.as_list(),
        }
        for name in sorted(infos)
    }


def _read(path: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes())
