"""Classifiers of garments of other shapes and ranges, as models of images with pixels from 0 to 1."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.exports import pictures, small_model
from training.export.adapted import (
    INPUT_RANGES,
    SHAPES,
    adapted,
    default_range,
    has_logits,
    takes_garments,
    with_softmax,
)

IMAGES = pictures(3) / np.float32(255)


def seen(shape: tuple[int, ...], dtype: str, input_range: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The first ten pixels as a model of this shape and dtype gets them, for the images."""
    images = keras.Input(shape, dtype=dtype, name="other")
    flat = keras.layers.Reshape((784,))(images)
    model = keras.Model(images, keras.ops.cast(flat[:, :10], "float32"), name="mine")
    around = adapted(model, input_range)
    assert (around.name, around.input_shape) == ("mine", (None, 28, 28))
    answers: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = around(IMAGES).numpy()
    return answers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("input_range", "factor", "offset"), [("0..1", 1, 0), ("0..255", 255, 0), ("-1..1", 2, -1)])
def test_pixels_come_as_the_model_takes_them(
    shape: tuple[int, ...], input_range: str, factor: int, offset: int
) -> None:
    """In its shape and its range."""
    expected = IMAGES.reshape(3, 784)[:, :10] * factor + offset
    np.testing.assert_allclose(seen(shape, "float32", input_range), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_numbers_are_rounded(dtype: str) -> None:
    """Each pixel is the one of the picture again."""
    expected = pictures(3).reshape(3, 784)[:, :10]
    np.testing.assert_array_equal(seen((28, 28), dtype, "0..255"), expected)
    np.testing.assert_array_equal(seen((28, 28), dtype, "0..1"), np.round(expected / 255))


def test_a_model_that_takes_what_is_served_is_left_alone() -> None:
    """With another range there is one around it."""
    model = small_model()
    assert adapted(model, "0..1") is model
    assert adapted(model, "0..255").inputs[0].name == "images"
    assert INPUT_RANGES == ("0..1", "0..255", "-1..1")


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", "0..1"), ("float16", "0..1"), ("uint8", "0..255"), ("int64", "0..255")]
)
def test_the_range_is_guessed_from_the_input(dtype: str, expected: str) -> None:
    """Whole numbers are those of pixels; a subclassed model takes floats."""
    images = keras.Input((28, 28), dtype=dtype)
    assert default_range(keras.Model(images, keras.layers.Flatten()(images))) == expected


def test_a_subclassed_model_has_the_shape_that_it_was_built_with() -> None:
    """It has no input of its own."""

    class Flat(keras.Model):  # type: ignore[misc]  # Keras ships no types
        """Of 784 pixels in a row."""

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            """Nothing to build."""
            self.built = True

        def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
            """Ten of them."""
            return images[:, :10]

    model = Flat()
    model(np.zeros((1, 784), np.float32))
    assert default_range(model) == "0..1"
    np.testing.assert_allclose(adapted(model, "0..1")(IMAGES).numpy(), IMAGES.reshape(3, 784)[:, :10], rtol=1e-6)


def test_logits_are_told_by_numbers_below_zero() -> None:
    """Probabilities have none; a softmax makes the ones of the others."""
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential(layers, name="mine")
    assert has_logits(model)
    assert not has_logits(small_model())
    ended = with_softmax(model)
    scores = model(IMAGES).numpy()
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ended(IMAGES).numpy(), expected, rtol=1e-5)
    assert (ended.name, ended.inputs[0].name, ended.input_shape) == ("mine", "images", (None, 28, 28))
    assert not has_logits(ended)


@pytest.mark.parametrize("shape", SHAPES)
def test_garments_are_images_to_ten_numbers(shape: tuple[int, ...]) -> None:
    """One input and one output, of any number of rows."""
    ten: list[tuple[int | None, ...]] = [(None, 10)]
    assert takes_garments([(None, *shape)], ten)
    assert not takes_garments([(None, *shape)], [(None, 9)])
    assert not takes_garments([(None, *shape)], [*ten, *ten])
    assert not takes_garments([(None, *shape), (None, *shape)], ten)
    assert not takes_garments([(1, *shape)], ten)
    assert not takes_garments([(None, 27, 28)], ten)
