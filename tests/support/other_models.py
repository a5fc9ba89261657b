"""Models that this project does not make: tiny, seeded, in files as their makers leave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.data.dataset import Dataset

IRIS_NAMES = ("setosa", "versicolor", "virginica")
LAYERS = '''"""Layers that Keras does not have."""

import keras
import tensorflow as tf


class Scale(keras.layers.Layer):
    """Three times its input, by a variable that Keras does not know of."""

    def __init__(self, **options):
        super().__init__(**options)
        self.factor = tf.Variable(3.0, trainable=False)

    def call(self, inputs):
        return inputs * self.factor


class Net(keras.Model):
    """A subclassed model."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)
'''


def classifier_of_garments(
    data: Dataset,
    path: Path,
    shape: tuple[int, ...],
    pixels: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]],
    *,
    hidden: Sequence[keras.layers.Layer] = (),
    logits: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """A model that was trained on what `pixels` makes of the images, saved at the path."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, None if logits else "softmax")]
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *hidden, *layers])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=logits))
    images = pixels(data.train_images).reshape(-1, *shape)
    model.fit(images, data.train_labels, epochs=3, batch_size=100, verbose=0)
    model.save(path)
    return model


def iris() -> keras.Model:
    """Four numbers to three classes."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(3, "softmax", name="probabilities")]
    return keras.Sequential([keras.Input((4,), name="x"), *layers], name="iris")


def two_inputs() -> keras.Model:
    """Four numbers, and any count of words' numbers, to a price and one of two kinds."""
    keras.utils.set_random_seed(3)
    size, words = keras.Input((4,), name="size"), keras.Input((None,), dtype="int32", name="words-in")
    text = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 3)(words))
    both = keras.layers.Concatenate()([size, text])
    dense = keras.layers.Dense
    return keras.Model([size, words], [dense(1, name="price")(both), dense(2, "softmax", name="kind")(both)])


def strings() -> keras.Model:
    """Text to two classes, by lookup tables."""
    keras.utils.set_random_seed(3)
    text = keras.Input((1,), dtype="string", name="text")
    words = keras.layers.TextVectorization(10, output_sequence_length=4, vocabulary=["0", "1", "a"])(text)
    one_hot = keras.layers.StringLookup(vocabulary=["0", "1"], output_mode="one_hot")(text)
    both = [keras.layers.Flatten()(keras.layers.Embedding(10, 2)(words)), one_hot]
    return keras.Model(text, keras.layers.Dense(2, "softmax", name="kind")(keras.layers.Concatenate()(both)))
