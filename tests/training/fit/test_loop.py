"""One optimizer step, against the same step by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.data import synthetic
from training.data.dataset import Dataset
from training.fit import loop, models
from training.fit.batches import SHIFTS

BATCH = 20


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Few images."""
    return synthetic.load({"train": 60, "validation": 10, "test": 10})


def moved(image: NDArray[np.uint8], shift: int) -> NDArray[np.uint8]:
    """An image as shift `3 * dy + dx` shows it."""
    row, column = divmod(shift, 3)
    return np.pad(image, 1)[row : row + 28, column : column + 28]


@pytest.mark.parametrize("is_soft", [False, True], ids=["labels", "soft labels"])
def test_a_step_goes_down_the_gradient_of_the_mean_cross_entropy(data: Dataset, is_soft: bool) -> None:
    """Of a perceptron, by plain gradient descent: dW = x (p - y) / N; each moved image with the labels of its shift."""
    generator = np.random.default_rng(1)
    soft = generator.dirichlet(np.ones(10), (SHIFTS, 60)).astype(np.float32)
    indices = generator.permutation(60)[: 2 * BATCH].reshape(2, BATCH).astype(np.int32)
    shifts = generator.integers(0, SHIFTS, indices.shape, dtype=np.int32)
    model = models.build("perceptron")
    model.compile(optimizer=keras.optimizers.SGD(0.5))
    model.optimizer.build(model.trainable_variables)
    model.set_weights([generator.normal(0, 0.1, weight.shape) for weight in model.get_weights()])
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())

    config = TrainingConfig(model="perceptron", shift=1.0, batch_size=BATCH)
    run = loop._make_steps(model, data, config, soft if is_soft else None)
    loss, accuracy = loop._run_epoch(run, indices, shifts, 256)

    losses, hits = [], []
    for numbers, moves in zip(indices, shifts, strict=True):
        images = np.stack([moved(data.train_images[n], s) for n, s in zip(numbers, moves, strict=True)])
        x = images.reshape(BATCH, -1) / 255
        y = soft[moves, numbers] if is_soft else np.eye(10)[data.train_labels[numbers]]
        scores = x @ kernel + bias
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        losses.append(-(y * np.log(p)).sum(axis=1).mean())
        hits.append((p.argmax(axis=1) == data.train_labels[numbers]).mean())
        kernel -= 0.5 * x.T @ (p - y) / BATCH
        bias -= 0.5 * (p - y).mean(axis=0)
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(hits))
    for weight, expected in zip(model.get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("steps_per_execution", [1, 2, 256])
def test_the_figures_of_an_epoch_are_means_over_its_steps(data: Dataset, steps_per_execution: int) -> None:
    """However many of them run in one call; nothing is learned at a rate of almost nothing."""
    model = models.build("perceptron")
    model.compile(optimizer=keras.optimizers.SGD(1e-30))
    model.optimizer.build(model.trainable_variables)
    run = loop._make_steps(model, data, TrainingConfig(model="perceptron", batch_size=BATCH))
    indices = np.arange(60, dtype=np.int32).reshape(3, BATCH)

    loss, accuracy = loop._run_epoch(run, indices, np.full_like(indices, 4), steps_per_execution)

    # A perceptron begins with weights of 0: every class has a tenth, and the first is the likeliest.
    assert loss == pytest.approx(np.log(10), rel=1e-5)
    assert accuracy == pytest.approx((data.train_labels == 0).mean())


class Noted(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Notes when it is called."""

    def __init__(self, last_epoch: int) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._last_epoch = last_epoch

    def on_train_begin(self, logs: object = None) -> None:
        """The first."""
        self.calls.append("train begins")

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """With the epoch's number."""
        self.calls.append(f"epoch {epoch} begins")

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Ends the fit after the last epoch."""
        assert isinstance(logs, dict)
        self.calls.append(f"epoch {epoch} ends with {', '.join(sorted(logs))}")
        if epoch == self._last_epoch:
            self.model.stop_training = True

    def on_train_end(self, logs: object = None) -> None:
        """The last, when callbacks close what they hold."""
        self.calls.append("train ends")


@pytest.mark.parametrize("last_epoch", [1, 2], ids=["a callback ends it", "it ends"])
def test_callbacks_are_told_as_keras_tells_them(data: Dataset, last_epoch: int) -> None:
    """From the first epoch that is asked for; the end of the training is told however it comes."""
    model = models.build("perceptron")
    model.compile(optimizer=keras.optimizers.SGD(0.5))
    model.optimizer.build(model.trainable_variables)
    noted = Noted(last_epoch)
    # As an earlier training has left it.
    model.stop_training = True

    loop.fit(model, data, TrainingConfig(model="perceptron", epochs=3, batch_size=BATCH), [noted], initial_epoch=1)

    epochs = [
        text
        for epoch in range(1, last_epoch + 1)
        for text in (f"epoch {epoch} begins", f"epoch {epoch} ends with accuracy, loss, val_accuracy, val_loss")
    ]
    assert noted.calls == ["train begins", *epochs, "train ends"]
