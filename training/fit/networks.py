"""Networks that exist only while training: the MLP with helpers that fold away, and the teacher.

Both take float32 [N,28,28], pixels scaled to 0..1, and give float32 [N,10], softmax probabilities.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from fashion_common.served_model import IMAGE_SHAPE
from training.config import TrainingConfig
from training.fit import models

_MOMENTUM = 0.9  # Keras's 0.99 still remembers the untrained units after the few hundred steps of a fast run


def training_network(config: TrainingConfig, model: keras.Model) -> keras.Model:
    """The network to train in the place of `model`: `model` itself unless batch_norm or dropout add layers to it."""
    if not config.batch_norm and not config.dropout:
        return model
    images = keras.Input(IMAGE_SHAPE)
    outputs = layers.Dense(models.HIDDEN_UNITS, use_bias=not config.batch_norm, name="hidden")(layers.Flatten()(images))
    if config.batch_norm:
        outputs = layers.BatchNormalization(momentum=_MOMENTUM, name="normalization")(outputs)
    outputs = layers.ReLU()(outputs)
    if config.dropout:
        outputs = layers.Dropout(config.dropout, seed=config.seed)(outputs)
    return keras.Model(images, layers.Dense(models.OUTPUT_UNITS, activation="softmax", name="output")(outputs))


def fold(network: keras.Model, model: keras.Model) -> None:
    """Gives `model` the weights with which it computes what the trained `network` computes at inference.

    Batch normalisation is linear at inference: gamma * (x @ kernel - mean) / sqrt(variance + epsilon) + beta is one
    dense layer (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3.1).
    """
    if network is model:
        return
    hidden, output = network.get_layer("hidden"), network.get_layer("output")
    if hidden.use_bias:
        kernel, bias = hidden.get_weights()
    else:
        normalization = network.get_layer("normalization")
        gamma, beta, mean, variance = normalization.get_weights()
        factor = gamma / np.sqrt(variance + normalization.epsilon)
        kernel, bias = hidden.get_weights()[0] * factor, beta - mean * factor
    model.set_weights([kernel, bias, *output.get_weights()])


def teacher() -> keras.Model:
    """A small convolutional network (825,514 weights) that the model learns from."""
    images = keras.Input(IMAGE_SHAPE)
    outputs = layers.Reshape((*IMAGE_SHAPE, 1))(images)
    for filters in (32, 64):
        outputs = layers.Conv2D(filters, 3, padding="same", use_bias=False)(outputs)
        outputs = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(outputs)))
    outputs = layers.Dropout(0.3)(layers.Flatten()(outputs))
    outputs = layers.Dense(256, use_bias=False)(outputs)
    outputs = layers.Dropout(0.3)(layers.ReLU()(layers.BatchNormalization()(outputs)))
    return keras.Model(images, layers.Dense(models.OUTPUT_UNITS, activation="softmax")(outputs), name="teacher")
