"""The teacher, its answers, and what the model learns from them."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from training.data import synthetic
from training.data.dataset import Dataset
from training.fit import checkpoint, distill, models, optimizers
from training.fit.batches import UNMOVED
from training.fit.evaluate import predict
from training.fit.stages import Watch, run_stage
from training.recipes import resolve
from training.train import train


@pytest.fixture
def small() -> Dataset:
    """Few enough images for a convolutional network in a test."""
    return synthetic.load({"train": 600, "validation": 100, "test": 100})


def test_a_model_is_asked_about_every_shift_of_every_image(small: Dataset) -> None:
    """Unmoved answers are the model's own; a moved image gets those of the moved image."""
    model = models.build()
    answers = distill.ask(model, small.train_images)
    assert answers.shape == (9, 600, 10)
    np.testing.assert_allclose(answers[UNMOVED], predict(model, small.train_images), atol=1e-6)
    shifted_images = np.pad(small.train_images[:, :-1, :-1], ((0, 0), (1, 0), (1, 0)))
    np.testing.assert_allclose(answers[0], predict(model, shifted_images), atol=1e-6)


def test_a_teacher_answers_with_all_of_its_units(small: Dataset) -> None:
    """What it leaves out while it learns is there."""
    teacher = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(10)]
    )
    answers = distill.ask(teacher, small.train_images)
    np.testing.assert_allclose(answers[UNMOVED], predict(teacher, small.train_images), atol=1e-5)


def test_soft_labels_mix_labels_and_answers(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By teacher_weight; the answers are kept, so that a second call does not train again."""
    monkeypatch.setattr(distill, "TEACHER", replace(distill.TEACHER, epochs=1, batch_size=100))
    config = resolve("fast", dataset="synthetic", teacher="cnn", teacher_weight=0.25)
    soft, _ = distill.soft_labels(config, small, tmp_path, Watch())
    np.testing.assert_allclose(soft.sum(axis=-1), 1, atol=1e-5)
    of_label = soft[:, np.arange(600), small.train_labels]
    assert of_label.min() >= 0.75
    # Whose answers they are: those of the image and of the shift that they stand at.
    answers = checkpoint.read(tmp_path / distill.ANSWERS).variables[0]
    labels = np.eye(10, dtype=np.float32)[small.train_labels]
    np.testing.assert_allclose(soft, 0.25 * answers + 0.75 * labels, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [distill.ANSWERS]
    monkeypatch.setattr(distill, "_teach", lambda *_: pytest.fail("trained again"))
    again, _ = distill.soft_labels(config, small, tmp_path, Watch())
    assert np.array_equal(again, soft)


def test_a_stage_learns_the_soft_labels_in_the_place_of_the_labels(small: Dataset, tmp_path: Path) -> None:
    """Those of other classes, here: the model answers with them."""
    model, config = models.build(), resolve("fast", dataset="synthetic", epochs=10, batch_size=100)
    model.compile(optimizer=optimizers.build(config, len(small.train_labels)))
    model.optimizer.build(model.trainable_variables)
    shifted = (small.train_labels + 1) % 10
    soft = np.tile(np.eye(10, dtype=np.float32)[shifted], (9, 1, 1))
    run_stage(model, config, small, Watch(), checkpoint_path=tmp_path / "checkpoint", soft_labels=soft)
    assert (predict(model, small.train_images).argmax(axis=1) == shifted).mean() > 0.5


def test_a_run_with_a_teacher_leaves_the_model_alone(
    small: Dataset, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's files are gone, and the model has the textbook's size and learns."""
    monkeypatch.setattr(distill, "TEACHER", replace(distill.TEACHER, epochs=1))
    monkeypatch.setattr(synthetic, "load", lambda **_: small)
    result = train(
        resolve("fast", dataset="synthetic", teacher="cnn", shift=0.5, epochs=20, batch_size=64),
        run_dir,
        watch=Watch(pictures=False),
    )
    assert result.model.count_params() == 101_770
    assert result.test.accuracy > 0.7
    assert not list(run_dir.glob("teacher*"))


def test_the_teachers_time_is_part_of_the_fits(small: Dataset, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own fit, here of 10,000 seconds, and its answers, of 500."""
    clock = itertools.count(0, 500)
    monkeypatch.setattr(distill, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(distill, "run_stage", lambda *_, **__: ({}, 10_000.0))
    monkeypatch.setattr(synthetic, "load", lambda **_: small)
    began = time.perf_counter()
    result = train(resolve("fast", dataset="synthetic", teacher="cnn", epochs=1), run_dir, watch=Watch(pictures=False))
    assert 10_500 < result.fit_seconds < 10_500 + time.perf_counter() - began
    recorded = json.loads((run_dir / "metrics.json").read_text())["fit_seconds"]
    assert recorded == pytest.approx(result.fit_seconds, abs=0.001)
