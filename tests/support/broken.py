"""Versions that no export would publish: classes permuted, NaN, slow. Each is whole otherwise, on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from training.export.lite import write_lite_model
from training.export.signatures import write_saved_model


def _permuted(model: keras.Model) -> keras.Model:
    """Every garment is taken for the next one."""
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.roll(kernel, 1, axis=1), np.roll(bias, 1)])
    return model


def _nan(model: keras.Model) -> keras.Model:
    """A bias that is no number makes no probability one."""
    kernel, bias = model.layers[-1].get_weights()
    bias[0] = np.nan
    model.layers[-1].set_weights([kernel, bias])
    return model


def _slow(model: keras.Model) -> keras.Model:
    """The same answers, after convolutions that add next to nothing."""
    images = keras.Input((28, 28))
    hidden = keras.layers.Reshape((28, 28, 1))(images)
    for _ in range(24):
        hidden = keras.layers.Conv2D(64, 3, padding="same", activation="tanh")(hidden)
    noise = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(images, keras.layers.Add()([model(images), keras.layers.Rescaling(1e-9)(noise)]))


KINDS: dict[str, Callable[[keras.Model], keras.Model]] = {"permuted": _permuted, "NaN": _nan, "slow": _slow}


def write_broken_version(kind: str, keras_model: Path, path: Path) -> None:
    """Writes a broken copy of a model as a version's directory."""
    model = KINDS[kind](keras.models.load_model(keras_model))
    write_saved_model(model, path)
    write_lite_model(path)
