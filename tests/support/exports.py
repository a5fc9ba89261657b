"""What the tests of the export share: a small run directory, pictures as bytes, and `fashion` in this process."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client.cli import fashion
from training import runs
from training.export import lite, self_test
from training.export.step_process import Steps
from training.fit import models

Pixels = npt.NDArray[np.uint8]
DATA = {"name": "fashion_mnist", "version": "3.0.1", "sha256": {"train-images-idx3-ubyte.gz": "00"}}


def small_model(seed: int = 7) -> keras.Model:
    """The textbook's MLP with seeded weights."""
    keras.utils.set_random_seed(seed)
    return models.build("mlp")


def make_run(run: Path, *, accuracy: float = 0.88, model: keras.Model | None = None, **data: Any) -> Path:
    """A run directory as `fashion train` leaves it."""
    run.mkdir(parents=True)
    runs.save_model(model or small_model(), run)
    runs.write_json(run / runs.CONFIG, {"recipe": "textbook", "epochs": 5})
    runs.write_json(run / runs.METRICS, {"test_accuracy": accuracy, "test_loss": 0.5, "data": DATA | data})
    return run


def with_accuracy(run: Path, copy: Path, accuracy: float, **data: Any) -> Path:
    """A copy of the run with another accuracy measured."""
    shutil.copytree(run, copy)
    runs.write_json(copy / runs.METRICS, {"test_accuracy": accuracy, "test_loss": 0.5, "data": DATA | data})
    return copy


def pictures(count: int, seed: int = 0) -> Pixels:
    """uint8 [count, 28, 28] of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def encoded(picture: npt.NDArray[Any] | Image.Image, form: str, **options: Any) -> bytes:
    """The picture's bytes as Pillow writes them."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def run_steps_here(patch: pytest.MonkeyPatch) -> None:
    """Lets exports do without their other process, which takes seconds to start."""
    # Looked up when an export begins: it may be killed at a call of one.
    patch.setattr(
        "training.export.export.step_process",
        lambda: nullcontext(Steps(lite.write_lite_model, self_test.run_self_test)),
    )


def invoke(*arguments: object) -> Result:
    """A command of `fashion` in this process."""
    return CliRunner().invoke(fashion, list(map(str, arguments)))


def children(path: Path) -> list[str]:
    """What lies there, hidden or not."""
    return sorted(child.name for child in path.iterdir())


def manifest(version: Path) -> dict[str, Any]:
    """The version's manifest."""
    return dict(json.loads((version / "assets.extra" / "manifest.json").read_text()))
