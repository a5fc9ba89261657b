"""The custom training loop: arrays in memory, many optimizer steps in one call into the graph.

keras.Model.fit pays Python, the input pipeline and the callbacks for each batch of 32; here a batch is gathered inside
the graph by its shuffled indices, and Python is back once in `steps_per_execution` steps. Keras's callbacks are served
as `fit` serves them, by epoch. (https://www.tensorflow.org/guide/keras/writing_a_training_loop_from_scratch)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.dataset import Dataset
from training.evaluate import evaluate

Steps = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def fit(model: keras.Model, data: Dataset, config: TrainingConfig, callbacks: list[keras.callbacks.Callback]) -> None:
    """Trains a compiled model in place; `callbacks` see loss, accuracy, val_loss and val_accuracy of an epoch."""
    heard = keras.callbacks.CallbackList(callbacks, model=model, epochs=config.epochs, verbose=0)
    run = make_steps(model, data, config)
    model.stop_training = False
    heard.on_train_begin()
    for epoch in range(config.epochs):
        heard.on_epoch_begin(epoch)
        loss, accuracy = _run_epoch(run, shuffled_batches(len(data.train_labels), config, epoch), config)
        validation = evaluate(model, data.validation_images, data.validation_labels)
        heard.on_epoch_end(
            epoch,
            {"loss": loss, "accuracy": accuracy, "val_loss": validation.loss, "val_accuracy": validation.accuracy},
        )
        if model.stop_training:
            break
    heard.on_train_end()


def shuffled_batches(count: int, config: TrainingConfig, epoch: int) -> NDArray[np.int32]:
    """The indices of one epoch, int32 [steps, batch]: a permutation that depends on seed and epoch only.

    What does not fill a batch is left out; another epoch leaves out other images.
    """
    batch = min(config.batch_size, count)
    order = np.random.default_rng((config.seed, epoch)).permutation(count)
    return order[: count // batch * batch].reshape(-1, batch).astype(np.int32)


def make_steps(model: keras.Model, data: Dataset, config: TrainingConfig) -> Steps:
    """A graph function: int32 [steps, batch] indices -> summed loss and summed accuracy over the steps it took."""
    images, labels = tf.constant(data.train_images), tf.constant(data.train_labels)
    variables = model.trainable_variables
    model.optimizer.build(variables)

    @tf.function(  # type: ignore[untyped-decorator]  # TensorFlow ships no types
        jit_compile=config.jit_compile, reduce_retracing=True
    )
    def run(batches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loss_sum, accuracy_sum = tf.constant(0.0), tf.constant(0.0)
        for batch in batches:
            inputs = tf.cast(tf.gather(images, batch), tf.float32) / 255.0
            targets = tf.gather(labels, batch)
            with tf.GradientTape() as tape:
                predicted = model(inputs, training=True)
                loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, predicted))
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            loss_sum += loss
            accuracy_sum += tf.reduce_mean(tf.cast(tf.argmax(predicted, axis=1) == targets, tf.float32))
        return loss_sum, accuracy_sum

    return cast(Steps, run)


def _run_epoch(run: Steps, batches: NDArray[np.int32], config: TrainingConfig) -> tuple[float, float]:
    totals = np.zeros(2)
    for start in range(0, len(batches), config.steps_per_execution):
        totals += [float(total) for total in run(tf.constant(batches[start : start + config.steps_per_execution]))]
    loss, accuracy = totals / len(batches)
    return float(loss), float(accuracy)
