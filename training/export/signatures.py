"""What the model answers to when it is served: four signatures over one set of weights, preprocessing in the graph.

`classify` answers TF Serving's Classify API, whose contract is in
https://www.tensorflow.org/tfx/serving/signature_defs#classification_signaturedef
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from fashion_common.layout import SAVED_MODEL_FILE
from fashion_common.served_model import CLASS_NAMES
from training.export.decoding import IMAGE_SIZE, decoded

METHOD_NAMES = {"classify": tf.saved_model.CLASSIFY_METHOD_NAME}


def served_signatures(
    model: keras.Model, class_names: Sequence[str] = CLASS_NAMES
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The traced function of every signature, by the signature's name; all of them run the same weights.

    - `serving_default`: `images` uint8 [N, 28, 28], 0 to 255 -> `probabilities` float32 [N, 10], `class_ids` int64 [N],
      `class_names` string [N]
    - `encoded_images`: `image_bytes` string [N], each a PNG, JPEG, GIF (first frame) or BMP -> the same three
    - `float_images`: `images` float32 [N, 28, 28], 0 to 1 -> `probabilities`
    - `classify`: `inputs` string [N], each a tf.Example with the bytes feature `image/encoded` -> `classes` string
      [N, 10] and `scores` float32 [N, 10], both in label order
    """
    names = tf.constant(list(class_names))

    def call(images: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.cast(model(images, training=False), tf.float32), [None, len(class_names)])

    probabilities = tf.function(call, autograph=False)
    decode = tf.function(decoded, autograph=False)

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = probabilities(scaled(images))
        class_ids = tf.argmax(rows, axis=1, output_type=tf.int64)
        return {"probabilities": rows, "class_ids": class_ids, "class_names": tf.gather(names, class_ids)}

    def encoded_images(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving_default(decode(image_bytes))

    def float_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities(images)}

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        scores = probabilities(scaled(decode(examples["image/encoded"])))
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

    What is saved holds the model's variables, not the Keras model: every weight is written once, and
    `tf.saved_model.load` needs no code of ours to load it.
    """
    module = tf.Module(name="served_model")
    module.weights = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(path), signatures=served_signatures(model))
    _set_method_names(path)


def scaled(images: tf.Tensor) -> tf.Tensor:
    """uint8 pixels 0 to 255 as float32 0 to 1: the only scaling there is, in training's words `pixels / 255`."""
    return tf.cast(images, tf.float32) / 255.0


def describe_signatures(path: Path) -> dict[str, Any]:
    """Every signature of a SavedModel: its method name, and each tensor's dtype and shape (None for any size)."""
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
            "shape": tf.TensorShape(infos[name].tensor_shape).as_list(),
        }
        for name in sorted(infos)
    }


def _set_method_names(path: Path) -> None:
    """`tf.saved_model.save` knows one method name, Predict's; a Classify server looks for its own.

    The fingerprint is of the file before that, and holds a random number: it is made anew, from the file as it is.
    """
    saved_model = _read(path)
    for signature, method_name in METHOD_NAMES.items():
        saved_model.meta_graphs[0].signature_def[signature].method_name = method_name
    (path / SAVED_MODEL_FILE).write_bytes(saved_model.SerializeToString(deterministic=True))
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(fingerprinting.CreateFingerprintDef(str(path)))
    fingerprint.uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, str(fingerprint.saved_model_checksum)).int)
    (path / "fingerprint.pb").write_bytes(fingerprint.SerializeToString(deterministic=True))


def _read(path: Path) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes())
