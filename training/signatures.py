"""What the model answers to when it is served: four signatures over one set of weights, preprocessing in the graph.

`classify` answers TF Serving's Classify API, whose contract is in
https://www.tensorflow.org/tfx/serving/signature_defs#classification_signaturedef
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from training.dataset import CLASS_NAMES

IMAGE_SIZE = 28
METHOD_NAMES = {"classify": tf.saved_model.CLASSIFY_METHOD_NAME}

# ITU-R BT.601 luma in 16 bit fixed point, as Pillow's convert("L") rounds it: the same photograph gives the same gray
# whether the client or the graph decodes it. The three add up to 2**16, so gray stays as it is.
_LUMA = (19595, 38470, 7471)


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

    probabilities = tf.function(call)

    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = probabilities(scaled(images))
        class_ids = tf.argmax(rows, axis=1, output_type=tf.int64)
        return {"probabilities": rows, "class_ids": class_ids, "class_names": tf.gather(names, class_ids)}

    def encoded_images(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving_default(decoded(image_bytes, "image_bytes"))

    def float_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities(images)}

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        scores = probabilities(scaled(decoded(examples["image/encoded"], "image/encoded")))
        return {"classes": tf.tile(names[tf.newaxis], [tf.shape(scores)[0], 1]), "scores": scores}

    images = [None, IMAGE_SIZE, IMAGE_SIZE]
    specs = {
        serving_default: tf.TensorSpec(images, tf.uint8, "images"),
        encoded_images: tf.TensorSpec([None], tf.string, "image_bytes"),
        float_images: tf.TensorSpec(images, tf.float32, "images"),
        classify: tf.TensorSpec([None], tf.string, "inputs"),
    }
    return {function.__name__: tf.function(function).get_concrete_function(spec) for function, spec in specs.items()}


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


def decoded(image_bytes: tf.Tensor, name: str) -> tf.Tensor:
    """string [N] -> uint8 [N, 28, 28]: every file decoded, laid on black, made gray, fitted into 28 x 28.

    Black is Fashion-MNIST's background; the longest edge becomes 28 pixels and the rest is centred, as in
    https://arxiv.org/abs/1708.07747, section 2. A file that cannot be decoded fails the call with InvalidArgumentError
    and the row's number: `name[3] of 5 ...`.
    """
    count = tf.size(image_bytes, out_type=tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    images = files.map(lambda row, file: (row, fitted(gray(file)))).ignore_errors()
    # One more row than there are files, so that a batch is never empty.
    end = tf.data.Dataset.from_tensors((count, tf.zeros([IMAGE_SIZE, IMAGE_SIZE], tf.uint8)))
    rows, pixels = images.concatenate(end).batch(count + 1).get_single_element()
    missing = tf.reduce_min(
        tf.where(rows == tf.range(tf.size(rows, tf.int64)), count, tf.range(tf.size(rows, tf.int64)))
    )
    problem = tf.strings.format(
        name + "[{}] of {} is not a whole PNG, JPEG, GIF or BMP image", (missing, count), summarize=-1
    )
    with tf.control_dependencies([tf.debugging.Assert(missing == count, [problem])]):
        return tf.ensure_shape(pixels[:-1], [None, IMAGE_SIZE, IMAGE_SIZE])


def gray(file: tf.Tensor) -> tf.Tensor:
    """One file's bytes -> uint8 [height, width]: luma of the colours, alpha laid on black, 16 bit cut to 8."""
    magic = tf.strings.substr(file, 0, 2)
    image = tf.case(
        [
            (magic == b"\x89P", lambda: tf.io.decode_png(file, channels=4)),
            # The accurate transform is what Pillow uses: both decoders then give the same pixels.
            (magic == b"\xff\xd8", lambda: _opaque(tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"))),
            (magic == b"BM", lambda: _opaque(_rgb(tf.io.decode_bmp(file)))),
        ],
        default=lambda: _opaque(tf.io.decode_image(file, channels=3, expand_animations=False)),
    )
    channels = tf.cast(tf.ensure_shape(image, [None, None, 4]), tf.int32)
    luma = (tf.reduce_sum(channels[..., :3] * tf.constant(_LUMA), axis=-1) + 2**15) // 2**16
    return tf.cast((luma * channels[..., 3] + 127) // 255, tf.uint8)


def fitted(image: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width] -> uint8 [28, 28], keeping the proportions, black beside it; 28 x 28 stays as it is."""
    resized = tf.image.resize_with_pad(image[..., tf.newaxis], IMAGE_SIZE, IMAGE_SIZE, antialias=True)
    return tf.saturate_cast(tf.round(resized[..., 0]), tf.uint8)


def _rgb(image: tf.Tensor) -> tf.Tensor:
    # The fourth byte of a 32 bit BMP is padding.
    return tf.cond(tf.shape(image)[-1] == 1, lambda: tf.repeat(image, 3, axis=-1), lambda: image[..., :3])


def _opaque(image: tf.Tensor) -> tf.Tensor:
    return tf.concat([image, tf.fill(tf.concat([tf.shape(image)[:2], [1]], 0), tf.constant(255, tf.uint8))], axis=-1)


def _set_method_names(path: Path) -> None:
    """`tf.saved_model.save` knows one method name, Predict's; a Classify server looks for its own."""
    file = path / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for signature, method_name in METHOD_NAMES.items():
            meta_graph.signature_def[signature].method_name = method_name
    file.write_bytes(saved_model.SerializeToString(deterministic=True))
