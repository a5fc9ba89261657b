"""Trained Keras models on disk, checked to be what the served signatures promise."""

from __future__ import annotations

from pathlib import Path

import keras

from training.dataset import CLASS_NAMES
from training.errors import TrainingUsageError
from training.signatures import IMAGE_SIZE


def load_run(run: Path) -> keras.Model:
    """The model of a run directory. Raises TrainingUsageError when there is none or its shapes are not served."""
    file = run / "model.keras"
    if not file.is_file():
        raise TrainingUsageError(f"No trained model at {file}: run `fashion train` first, or name a run directory")
    return checked(_load(file), file)


def checked(model: keras.Model, file: Path) -> keras.Model:
    """The model itself when it maps [N, 28, 28] to [N, 10]. Raises TrainingUsageError when it does not."""
    shapes = (model.input_shape, model.output_shape)
    expected = ((None, IMAGE_SIZE, IMAGE_SIZE), (None, len(CLASS_NAMES)))
    if shapes != expected:
        raise TrainingUsageError(
            f"{file} maps {shapes[0]} to {shapes[1]}: a served model maps {expected[0]} to {expected[1]}"
        )
    return model


def _load(file: Path) -> keras.Model:
    try:
        return keras.models.load_model(file, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise TrainingUsageError(f"Keras cannot load {file}: {str(error).splitlines()[0]}") from error
