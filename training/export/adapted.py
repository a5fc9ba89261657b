"""Classifiers of ten garments of other shapes than ours, as models of [N, 28, 28] with pixels from 0 to 1."""

from __future__ import annotations

import math

import keras
import numpy as np

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from training.data import synthetic

# What an image may be for a model: rows and columns, the same with one channel, or all pixels in a row.
SHAPES = (IMAGE_SHAPE, (*IMAGE_SHAPE, 1), (math.prod(IMAGE_SHAPE),))
# By which factor and offset pixels from 0 to 1 become those that a model was trained on.
_RANGES = {"0..1": (1.0, 0.0), "0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
INPUT_RANGES = tuple(_RANGES)
_SAMPLES = 200


def default_range(model: keras.Model) -> str:
    """0..1, or 0..255 for a model whose input is of integers."""
    return "0..1" if "float" in _input_dtype(model) else "0..255"


def adapted(model: keras.Model, input_range: str) -> keras.Model:
    """The model itself where it takes what `float_images` takes, else one around it that shares its weights.

    model: maps [N, *shape], the shape one of SHAPES, to [N, 10]. input_range: one of INPUT_RANGES.
    """
    factor, offset = _RANGES[input_range]
    shape, dtype = _input_shape(model), _input_dtype(model)
    if (shape, input_range) == (IMAGE_SHAPE, "0..1") and "float" in dtype:
        return model
    images = keras.Input(IMAGE_SHAPE, name="images")
    pixels = keras.layers.Rescaling(factor, offset, dtype="float32")(keras.layers.Reshape(shape)(images))
    if "float" not in dtype:
        pixels = keras.ops.cast(keras.ops.round(pixels), dtype)
    return keras.Model(images, model(pixels), name=model.name)


def has_logits(model: keras.Model) -> bool:
    """Whether the outputs for drawn garments are scores without bounds, some below 0, and not probabilities.

    model: maps [N, 28, 28], 0 to 1, to [N, 10].
    """
    images, _ = synthetic.draw(_SAMPLES, np.random.default_rng(0))
    outputs = model(images.astype(np.float32) / np.float32(255), training=False)
    return bool((keras.ops.convert_to_numpy(outputs) < 0).any())


def with_softmax(model: keras.Model) -> keras.Model:
    """The model with a softmax at its end, which shares its weights."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    return keras.Model(images, keras.layers.Softmax(dtype="float32")(model(images)), name=model.name)


def takes_garments(shapes: list[tuple[int | None, ...]], output_shapes: list[tuple[int | None, ...]]) -> bool:
    """Whether a model with these inputs and outputs maps images of one of SHAPES to ten numbers."""
    return shapes in [[(None, *shape)] for shape in SHAPES] and output_shapes == [(None, len(CLASS_NAMES))]


def _input_shape(model: keras.Model) -> tuple[int, ...]:
    # A subclassed model has no input of its own; it was built with this shape.
    inputs = getattr(model, "inputs", None)
    return tuple(inputs[0].shape[1:] if inputs else model.get_build_config()["input_shape"][1:])


def _input_dtype(model: keras.Model) -> str:
    inputs = getattr(model, "inputs", None)
    return str(inputs[0].dtype) if inputs else "float32"
