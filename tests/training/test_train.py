"""A run from configuration to run directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from training import runs
from training.data import dataset, synthetic
from training.data.dataset import Dataset
from training.errors import TrainingError, TrainingUsageError
from training.fit import models
from training.fit.evaluate import evaluate, predict
from training.fit.stages import Watch
from training.recipes import resolve
from training.train import TrainingResult, train

PLAIN = Watch(pictures=False)


def test_run_directory_holds_every_form_of_the_model(synthetic_run: TrainingResult) -> None:
    """Model, history, metrics and configuration, and nothing half-written beside them."""
    assert sorted(path.name for path in synthetic_run.run_dir.iterdir()) == [
        "config.json",
        "figures",
        "history.json",
        "metrics.json",
        "model.h5",
        "model.json",
        "model.keras",
        "model.weights.h5",
        "report.html",
    ]
    assert (synthetic_run.run_dir.parent / "latest").resolve() == synthetic_run.run_dir.resolve()


def test_run_records_its_data_its_figures_and_its_configuration(synthetic_run: TrainingResult) -> None:
    """Which data it had is never left to memory."""
    metrics = json.loads((synthetic_run.run_dir / "metrics.json").read_text())
    assert metrics["data"]["name"] == "synthetic"
    assert metrics["test_accuracy"] == synthetic_run.test.accuracy
    assert metrics["parameters"] == 101_770
    history = json.loads((synthetic_run.run_dir / "history.json").read_text())
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {len(values) for values in history.values()} == {metrics["epochs"]}
    config = json.loads((synthetic_run.run_dir / "config.json").read_text())
    assert config == resolve("fast", dataset="synthetic").to_json()


@pytest.mark.parametrize("api", ["sequential", "functional", "subclassed"])
@pytest.mark.parametrize("model", ["perceptron", "mlp"])
def test_every_saved_form_gives_the_same_probabilities(
    model: str, api: str, synthetic_data: Dataset, tmp_path: Path
) -> None:
    """.keras, .h5, and JSON with weights: 256 images, within 1e-6."""
    trained = models.build(model, api)
    generator = np.random.default_rng(1)
    trained.set_weights([generator.normal(0, 0.1, weight.shape) for weight in trained.get_weights()])
    runs.save_model(trained, tmp_path)
    from_json = keras.models.model_from_json((tmp_path / "model.json").read_text())
    from_json.load_weights(tmp_path / "model.weights.h5")
    expected = predict(trained, synthetic_data.test_images[:256])
    for form in (
        from_json,
        keras.models.load_model(tmp_path / "model.h5", compile=False),
        keras.models.load_model(tmp_path / runs.MODEL, compile=False),
    ):
        np.testing.assert_allclose(predict(form, synthetic_data.test_images[:256]), expected, atol=1e-6)


def test_a_subclassed_model_is_loaded_as_what_it_was(tmp_path: Path) -> None:
    """Our own layer and model are found again by their registered names."""
    runs.save_model(models.build("mlp", "subclassed"), tmp_path)
    assert isinstance(keras.models.load_model(tmp_path / runs.MODEL, compile=False), models.SubclassedModel)


def test_textbook_loop_trains_too(run_dir: Path) -> None:
    """The same run through keras.Model.fit."""
    result = train(resolve("textbook", dataset="synthetic", epochs=2), run_dir, watch=PLAIN)
    assert result.test.accuracy >= 0.9
    assert len(result.history["val_accuracy"]) == 2


def test_taken_directory_is_refused_and_left_alone(run_dir: Path) -> None:
    """A run is never written over another."""
    run_dir.mkdir(parents=True)
    (run_dir / "notes.txt").write_text("mine")
    with pytest.raises(TrainingUsageError, match=rf"{run_dir} is not empty"):
        train(resolve("fast", dataset="synthetic"), run_dir, watch=PLAIN)
    assert [path.name for path in run_dir.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("what", ["run", "tensorboard"])
def test_directory_that_cannot_be_made_is_named(what: str, tmp_path: Path) -> None:
    """A file where a directory must be."""
    file = tmp_path / "file"
    file.write_text("a file")
    run_dir = file / "run" if what == "run" else tmp_path / "run"
    watch = Watch(pictures=False, tensorboard=file / "logs" if what == "tensorboard" else None)
    with pytest.raises(TrainingError, match=rf"{file}.* cannot be .* \(Not a directory\): "):
        train(resolve("fast", dataset="synthetic"), run_dir, watch=watch)
    assert file.read_text() == "a file"


def test_full_disk_is_one_clear_error(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written whole is not there at all."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(TrainingError, match=rf"{run_dir} cannot be written \(No space left on device\): make room"):
        train(
            resolve("fast", dataset="synthetic", epochs=1), run_dir, watch=Watch(pictures=False, checkpoint_seconds=600)
        )
    assert [path.name for path in run_dir.iterdir()] == ["config.json"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Few images, in the place of the synthetic ones."""
    images = synthetic.load({"train": 128, "validation": 20, "test": 30})
    monkeypatch.setattr(synthetic, "load", lambda **_: images)
    return images


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"loop": "fit", "steps_per_execution": 2}, (2, False)),
        ({"steps_per_execution": 2}, (1, False)),
        ({"steps_per_execution": 2, "jit_compile": True}, (1, True)),
    ],
)
def test_a_network_is_compiled_for_its_loop(
    small: Dataset, run_dir: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: tuple[int, bool]
) -> None:
    """Keras's takes several steps at a time as it is told; XLA is for whoever asks for it."""
    compiled: list[dict[str, Any]] = []

    def note(_model: keras.Model, **options: Any) -> None:
        compiled.append(options)
        raise OSError("enough")

    monkeypatch.setattr(keras.Model, "compile", note)
    with pytest.raises(TrainingError, match=rf"^{run_dir} cannot be written \(enough\): make room there, or name "):
        train(resolve("textbook", dataset="synthetic", **({"loop": "custom"} | settings)), run_dir, watch=PLAIN)
    [options] = compiled
    assert (options["steps_per_execution"], options["jit_compile"]) == expected
    assert (options["loss"], options["metrics"]) == ("sparse_categorical_crossentropy", ["accuracy"])
    assert float(options["optimizer"].learning_rate) == pytest.approx(0.001)
    assert len(small.train_images) == 128


def test_what_takes_long_before_the_fit_is_told(
    small: Dataset, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The preparation of the real data, as it goes on."""

    def load(_: Path | None, *, report: Callable[[str], None]) -> Dataset:
        report("Preparing")
        return small

    monkeypatch.setattr(dataset, "load", load)
    train(resolve("fast", epochs=1), run_dir, watch=Watch(progress=True, pictures=False))
    assert capsys.readouterr().err.startswith("Preparing\n")


def test_the_record_of_a_run_is_what_was_measured(small: Dataset, run_dir: Path) -> None:
    """All of it, and the data; the history has an entry an epoch."""
    result = train(resolve("fast", dataset="synthetic", epochs=2), run_dir, watch=PLAIN)
    test = evaluate(result.model, small.test_images, small.test_labels)
    validation = evaluate(result.model, small.validation_images, small.validation_labels)
    assert json.loads((run_dir / "metrics.json").read_text()) == {
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_distribution": test.distribution(),
        "fit_seconds": round(result.fit_seconds, 3),
        "epochs": 2,
        "parameters": 101_770,
        "data": small.manifest(),
    }
    assert json.loads((run_dir / "history.json").read_text()) == result.history
    assert result.history["val_accuracy"][-1] == pytest.approx(validation.accuracy, abs=0.051)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("in_built_in", [False, True])
def test_ctrl_c_after_the_fit_says_how_to_go_on(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, in_built_in: bool
) -> None:
    """As while the test images are run, in a function of NumPy's too; the run is not finished."""

    def interrupt(*_: object) -> None:
        if in_built_in:
            raise SystemError("returned a result with an exception set") from KeyboardInterrupt()
        raise KeyboardInterrupt

    monkeypatch.setattr("training.train.evaluate", interrupt)
    with pytest.raises(TrainingError) as error:
        train(resolve("fast", dataset="synthetic", epochs=1), run_dir, watch=PLAIN)
    assert str(error.value) == f"interrupted; go on with: fashion train --resume {run_dir}"
    assert not (run_dir / "metrics.json").exists()


@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)], ids=["the same", "another"])
def test_the_seed_decides_about_the_weights_that_a_run_begins_with(
    seeds: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And about the synthetic images, here the same for all. At a rate of almost nothing the first weights stay."""
    images = synthetic.load({"train": 100, "validation": 10, "test": 10})
    drawn: list[int] = []

    def load(*, seed: int) -> Dataset:
        drawn.append(seed)
        return images

    monkeypatch.setattr(synthetic, "load", load)
    kernels = []
    for number, seed in enumerate(seeds):
        config = resolve("textbook", dataset="synthetic", epochs=1, learning_rate=1e-30, seed=seed)
        kernels.append(train(config, tmp_path / str(number), watch=PLAIN).model.get_weights()[0])
    assert np.array_equal(*kernels) == (seeds[0] == seeds[1])
    assert tuple(drawn) == seeds


def test_the_seed_decides_about_the_synthetic_images() -> None:
    """The same ones for the same seed."""
    sizes = {"train": 10, "validation": 10, "test": 10}
    first, same, other = (synthetic.load(sizes, seed=seed).train_images for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_recipes_hold_on_the_real_data(real_data: Dataset, tmp_path: Path) -> None:
    """Both reach 0.86, the textbook's after three of its epochs; `fast` in less than half of their fit time."""
    textbook = train(resolve("textbook", epochs=3), tmp_path / "textbook", watch=PLAIN)
    fast = train(resolve("fast"), tmp_path / "fast", watch=PLAIN)
    assert textbook.model.count_params() == fast.model.count_params() == 101_770
    assert min(textbook.validation.accuracy, fast.validation.accuracy) >= 0.86
    assert fast.fit_seconds <= textbook.fit_seconds / 2
