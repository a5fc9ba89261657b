"""The custom training loop: arrays in memory, many optimizer steps in one call into the graph.

keras.Model.fit runs Python, the input pipeline and the callbacks for each batch of 32; here a batch is gathered inside
the graph by its shuffled indices, and Python runs once in `steps_per_execution` steps. Keras's callbacks are called by
epoch, as `fit` calls them (https://www.tensorflow.org/guide/keras/writing_a_training_loop_from_scratch). Under a
tf.distribute strategy each replica takes its part of every batch, and the gradients are averaged over all of them
(https://www.tensorflow.org/tutorials/distribute/custom_training).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit import batches
from training.fit.batches import ImageStore
from training.fit.evaluate import evaluate

Steps = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
_INDICES = tf.TensorSpec((None, None), tf.int32)


def fit(
    model: keras.Model,
    data: Dataset,
    config: TrainingConfig,
    callbacks: list[keras.callbacks.Callback],
    *,
    initial_epoch: int = 0,
    soft_labels: NDArray[np.float32] | None = None,
) -> None:
    """Trains a compiled model in place; `callbacks` get loss, accuracy, val_loss and val_accuracy of each epoch.

    `soft_labels`, float32 [9,N,10], are the class probabilities to learn for each shift of each image, in the place of
    its label.
    """
    callback_list = keras.callbacks.CallbackList(callbacks, model=model, epochs=config.epochs, verbose=0)
    run = _make_steps(model, data, config, soft_labels)
    model.stop_training = False
    callback_list.on_train_begin()
    for epoch in range(initial_epoch, config.epochs):
        callback_list.on_epoch_begin(epoch)
        drawn = batches.draw(len(data.train_labels), config.batch_size, config.shift, config.seed, epoch)
        loss, accuracy = _run_epoch(run, *drawn, config.steps_per_execution)
        validation = evaluate(model, data.validation_images, data.validation_labels)
        callback_list.on_epoch_end(
            epoch,
            {"loss": loss, "accuracy": accuracy, "val_loss": validation.loss, "val_accuracy": validation.accuracy},
        )
        if model.stop_training:
            break
    callback_list.on_train_end()


def _make_steps(
    model: keras.Model, data: Dataset, config: TrainingConfig, soft_labels: NDArray[np.float32] | None = None
) -> Steps:
    """A graph function: indices, shifts, int32 [steps, batch] -> loss and accuracy, float32 [2], summed over steps."""
    store = ImageStore(data.train_images, moving=config.shift > 0)
    labels = tf.constant(data.train_labels)
    soft = None if soft_labels is None else tf.constant(soft_labels.reshape(-1, soft_labels.shape[-1]))
    count = len(data.train_labels)
    strategy = model.distribute_strategy
    variables = model.trainable_variables

    def step(indices: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            part = tf.shape(indices)[0] // context.num_replicas_in_sync
            first = part * context.replica_id_in_sync_group
            indices, shifts = indices[first : first + part], shifts[first : first + part]
        images, targets = store.gather(indices, shifts), tf.gather(labels, indices)
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            if soft is None:
                losses = keras.losses.sparse_categorical_crossentropy(targets, probabilities)
            else:
                losses = keras.losses.categorical_crossentropy(tf.gather(soft, shifts * count + indices), probabilities)
            loss = tf.reduce_mean(losses)
            share = loss / context.num_replicas_in_sync
        # Keras's optimizers add up the gradients of all replicas.
        model.optimizer.apply(tape.gradient(share, variables), variables)
        return tf.stack([loss, tf.reduce_mean(tf.cast(tf.argmax(probabilities, axis=1) == targets, tf.float32))])

    def run(indices: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
        sums = tf.zeros(2)
        for number in tf.range(tf.shape(indices)[0]):
            replica_sums = strategy.run(step, args=(indices[number], shifts[number]))
            sums += strategy.reduce(tf.distribute.ReduceOp.MEAN, replica_sums, axis=None)
        return sums

    signature = (_INDICES, _INDICES)
    return cast(Steps, tf.function(run, input_signature=signature, jit_compile=config.jit_compile or None))


def _run_epoch(
    run: Steps, indices: NDArray[np.int32], shifts: NDArray[np.int32], steps_per_execution: int
) -> tuple[float, float]:
    sums = np.zeros(2)
    for start in range(0, len(indices), steps_per_execution):
        part = slice(start, start + steps_per_execution)
        sums += run(tf.constant(indices[part]), tf.constant(shifts[part])).numpy()
    loss, accuracy = sums / len(indices)
    return float(loss), float(accuracy)
