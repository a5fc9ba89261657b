"""`fashion export --from`: models trained elsewhere, and models of other forms."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from fashion_common.runtimes import WITHOUT_KERAS
from tests.support.exports import invoke, make_run, manifest, pictures, small_model
from tests.support.interrupted import interrupted_after
from training import runs
from training.data.dataset import Dataset
from training.errors import TrainingUsageError
from training.export.trained import load_run
from training.fit import models
from training.fit.evaluate import evaluate
from training.recipes import resolve

pytestmark = pytest.mark.usefixtures("steps_here")


@pytest.mark.parametrize("form", ["model.h5", "model.keras", "model.json"])
def test_a_model_trained_elsewhere_is_measured_and_exported(
    run: Path, base: Path, synthetic_data: Dataset, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """From HDF5, .keras, or JSON with the weights beside it; its accuracy is measured on the test images."""
    monkeypatch.setattr("training.export.trained.dataset.load", lambda _: synthetic_data)
    # As on a terminal, where it says on stderr what it does.
    monkeypatch.setenv("FORCE_COLOR", "1")
    # Its weights are drawn by chance, so it guesses.
    result = invoke("export", "--from", run / form, "--model-base-path", base, "--force")
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    assert "Writing the SavedModel" in result.stderr
    record = manifest(base / "1")
    expected = evaluate(small_model(), synthetic_data.test_images, synthetic_data.test_labels)
    assert (record["run"], record["recipe"], record["data"]["name"]) == (form, None, "synthetic")
    assert record["accuracy"] == pytest.approx(expected.accuracy)
    images = pictures(16) / np.float32(255)
    answer = tf.saved_model.load(str(base / "1")).signatures["float_images"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], small_model().predict(images, verbose=0), rtol=0, atol=1e-6)


def test_a_model_trained_elsewhere_is_measured_on_the_files_that_are_named(
    run: Path, base: Path, tmp_path: Path
) -> None:
    """A directory that lacks them is no reason to take others."""
    result = invoke("export", "--from", run / "model.keras", "--data-dir", tmp_path, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {tmp_path} lacks train-images-idx3-ubyte.gz, ")


def other_model(input_shape: tuple[int, ...], units: int, activation: str | None = "softmax") -> keras.Model:
    """A model that is not ours."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]
    return keras.Sequential([keras.layers.Input(input_shape), *layers])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda path: other_model((28, 28), 2).save(path),
            "{path} maps (None, 28, 28) to (None, 2), and clients send garments to fashion_mnist: give it a name of ",
        ),
        (
            lambda path: path.write_bytes(b"not a model"),
            "Keras cannot load {path}: ",
        ),
        (lambda _: None, "No file {path}: a model is a .keras or .h5 file, a .json file with --weights, or a "),
    ],
    ids=["output", "damaged", "missing"],
)
def test_a_file_that_cannot_be_served_is_asked_wrongly(
    base: Path, tmp_path: Path, make: Callable[[Path], object], expected: str
) -> None:
    """The message names the file, what it is, and what it should be."""
    path = tmp_path / "elsewhere.keras"
    make(path)
    result = invoke("export", "--from", path, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {expected.format(path=path)}")
    assert not base.exists()


@pytest.mark.parametrize(
    ("shape", "units", "is_served"), [((28, 28), 10, True), ((28, 28), 2, False), ((28, 28, 1), 10, False)]
)
def test_a_run_s_model_maps_images_to_ten_classes(
    tmp_path: Path, shape: tuple[int, ...], units: int, is_served: bool
) -> None:
    """One that does not cannot be served as it is; the record of one that does comes with it."""
    run = make_run(tmp_path / "run", model=other_model(shape, units))
    if not is_served:
        with pytest.raises(TrainingUsageError) as error:
            load_run(run)
        assert str(error.value) == (
            f"{run}/model.keras maps {(None, *shape)} to {(None, units)}: a served model maps (None, 28, 28) to "
            "(None, 10)"
        )
        return
    trained = load_run(run)
    assert (trained.source, trained.accuracy, trained.objections) == ("run", 0.88, ())
    assert [path.name for path in trained.files] == ["model.keras", "model.json", "model.weights.h5", "model.h5"]
    assert (trained.config, trained.metrics) == (
        {"recipe": "textbook", "epochs": 5},
        {"test_accuracy": 0.88, "test_loss": 0.5},
    )
    assert trained.data["name"] == "fashion_mnist"
    (run / "model.h5").unlink()
    assert len(load_run(run).files) == 3


@pytest.mark.parametrize(
    ("metrics", "objections"),
    [
        ({"test_accuracy": 0.2}, ()),
        ({"test_accuracy": 0.1999}, ["accuracy 0.1999 is that of guessing: train it anew"]),
        ({"test_accuracy": 0}, ["accuracy 0.0000 is that of guessing: train it anew"]),
        ({}, ()),
    ],
)
def test_a_run_that_guesses_is_doubted(
    run: Path, tmp_path: Path, metrics: dict[str, float], objections: Sequence[str]
) -> None:
    """Twice what guessing one of ten reaches is not, nor is one that was not measured."""
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    runs.write_json(copy / runs.METRICS, metrics)
    trained = load_run(copy)
    assert (trained.objections, trained.accuracy, trained.data) == (objections, metrics.get("test_accuracy"), {})


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C: by its name, and as the newest run when none is finished; a finished one is exported then too."""
    interrupted_after(1, resolve("fast", dataset="synthetic"), tmp_path / "runs" / "cut", monkeypatch)
    monkeypatch.chdir(tmp_path)
    for arguments in (["runs/cut"], []):
        result = invoke("export", *arguments, "--model-base-path", base)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "Error: runs/cut is not finished: go on with: fashion train --resume runs/cut\n"
    make_run(tmp_path / "runs" / "whole")
    runs.point_latest(tmp_path / "runs" / "whole")
    assert invoke("export", "--model-base-path", base, "--no-lite").exit_code == 0


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("metrics.json", "[1]", "holds [1], no JSON object: name a directory that `fashion train` made"),
        ("config.json", "3", "holds 3, no JSON object: name a directory that `fashion train` made"),
        (
            "metrics.json",
            '{"test_accuracy": [1]}',
            ": test_accuracy [1] must be a number: name a run that `fashion train` made",
        ),
        ("metrics.json", '{"data": 3}', ": data 3 must be an object: name a run that `fashion train` made"),
    ],
)
def test_a_run_whose_record_was_changed_is_asked_wrongly(
    base: Path, tmp_path: Path, file: str, content: str, expected: str
) -> None:
    """The file, the value and the rule, before anything is written."""
    run = make_run(tmp_path / "run")
    (run / file).write_text(content)
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {run / file}{'' if expected.startswith(':') else ' '}{expected}\n"
    assert not base.exists()


def test_a_model_that_gives_no_probabilities_is_asked_wrongly(base: Path, tmp_path: Path) -> None:
    """Logits would be served under the name of probabilities."""
    run = make_run(tmp_path / "run", model=other_model((28, 28), 10, activation="relu"))
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(
        r"Error: The model's outputs are no probabilities: a row sums to [\d.]+, not to 1: end it in softmax\n",
        result.stderr,
    )


def test_a_subclassed_model_is_served_without_its_code(base: Path, tmp_path: Path) -> None:
    """Classes of our own answer as any model, and TensorFlow alone loads what was exported."""
    subclassed = models.build("mlp", "subclassed")
    run = make_run(tmp_path / "run", model=subclassed)
    assert invoke("export", run, "--model-base-path", base).exit_code == 0
    images = pictures(8)
    load = (
        "import sys, numpy, tensorflow as tf; images = numpy.load(sys.argv[2]);"
        "answer = tf.saved_model.load(sys.argv[1]).signatures['serving_default'](images=images);"
        "assert not any(name.partition('.')[0] in ('keras', 'training', 'serving') for name in sys.modules);"
        "numpy.save(sys.argv[3], answer['probabilities'])"
    )
    np.save(tmp_path / "images.npy", images)
    paths = [base / "1", tmp_path / "images.npy", tmp_path / "answer.npy"]
    command = [sys.executable, "-c", load, *map(str, paths)]
    environment = {**os.environ, **WITHOUT_KERAS}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, stderr=subprocess.DEVNULL)
    expected = subclassed(images / np.float32(255)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, rtol=0, atol=1e-6)
