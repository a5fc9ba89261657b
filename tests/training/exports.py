"""What the tests of the export share: a tiny run directory as `fashion train` leaves it, and pictures as bytes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def tiny_model(seed: int = 7) -> keras.Model:
    """The textbook's model with seeded weights."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def make_run(run: Path, model: keras.Model | None = None, test_accuracy: float = 0.88) -> Path:
    """A run directory around the model."""
    run.mkdir(parents=True)
    model = model or tiny_model()
    model.save(run / "model.keras")
    model.save_weights(run / "model.weights.h5")
    (run / "model.json").write_text(model.to_json())
    data = {"name": "fashion_mnist", "version": "3.0.1", "digests": {"train-images-idx3-ubyte.gz": "sha256:00"}}
    metrics = {"validation_accuracy": test_accuracy, "test_accuracy": test_accuracy, "data": data}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "config.json").write_text(json.dumps({"recipe": "textbook"}))
    (run / "history.json").write_text(json.dumps({"loss": [0.5]}))
    return run


def pictures(count: int, seed: int = 0) -> Pixels:
    """uint8 [count, 28, 28] of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def encoded(pixels: npt.NDArray[np.generic], form: str, **options: object) -> bytes:
    """The picture's bytes as Pillow writes them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()
