"""Requests in the forms that the signatures take: image files and tf.Examples around them."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image


def image_file(pixels: npt.NDArray[np.uint8], image_format: str) -> bytes:
    """The bytes of an image file in one of Pillow's formats; pixels: uint8 [height, width]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def tf_example(file: bytes) -> bytes:
    """A serialized tf.Example with the file under `image/encoded`, as `classify` takes it."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
    return bytes(example.SerializeToString(deterministic=True))
