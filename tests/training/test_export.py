"""`fashion export`: runs become versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from exports import make_run, pictures

from client.cli import fashion


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to export."""
    return make_run(tmp_path_factory.mktemp("runs") / "a-run")


def invoke(*arguments: object):
    """`fashion export` in this process."""
    return CliRunner().invoke(fashion, ["export", *map(str, arguments)])


def test_export_takes_the_next_number_and_prints_the_path(run: Path, tmp_path: Path) -> None:
    """Numbers go on from the greatest version, whatever else lies there."""
    base = tmp_path / "fashion_mnist"
    (base / "0007").mkdir(parents=True)
    (base / "notes").mkdir()
    result = invoke(run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '8'}\n")
    assert sorted(path.name for path in base.iterdir()) == ["0007", "8", "notes"]


def test_export_as_json(run: Path, tmp_path: Path) -> None:
    """--json prints version and path."""
    result = invoke(run, "--model-base-path", tmp_path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"version": 1, "path": str(tmp_path / "1")}


def test_the_exported_directory_answers_as_the_run_s_model(run: Path, tmp_path: Path) -> None:
    """The SavedModel holds the run's weights."""
    import keras

    assert invoke(run, "--model-base-path", tmp_path).exit_code == 0
    images = pictures(256) / np.float32(255)
    answer = tf.saved_model.load(str(tmp_path / "1")).signatures["float_images"](images=tf.constant(images))
    expected = keras.models.load_model(run / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)


def test_a_run_without_a_model_is_asked_wrongly(tmp_path: Path) -> None:
    """One line names the file and the fix; nothing is written."""
    result = invoke(tmp_path / "none", "--model-base-path", tmp_path / "models")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: No trained model at {tmp_path}/none/model.keras: run `fashion train` first, or name a run directory\n"
    )
    assert not (tmp_path / "models").exists()
