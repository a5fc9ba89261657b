"""The two models of the textbook, each in Keras's three forms.

Input: float32 [N,28,28], pixels scaled to 0..1. Output: float32 [N,10], softmax probabilities.
"""

from __future__ import annotations

from typing import Any

import keras

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

HIDDEN_UNITS = 128
OUTPUT_UNITS = len(CLASS_NAMES)


def build(model: str = "mlp", api: str = "sequential") -> keras.Model:
    """A new model with its weights: `perceptron` (7,850 parameters) or `mlp` (101,770).

    api: `sequential`, `functional` or `subclassed`. Weights are in the same order and of the same shapes in all three
    forms: kernel and bias of each dense layer.
    """
    if api == "subclassed":
        subclassed = SubclassedModel(HIDDEN_UNITS if model == "mlp" else None, name=model)
        subclassed.build((None, *IMAGE_SHAPE))
        return subclassed
    images = keras.Input(IMAGE_SHAPE, name="images")
    layers = [keras.layers.Flatten(name="flatten")]
    if model == "mlp":
        layers.append(keras.layers.Dense(HIDDEN_UNITS, activation="relu", name="hidden"))
    initializer = "glorot_uniform" if model == "mlp" else "zeros"
    layers.append(keras.layers.Dense(OUTPUT_UNITS, activation="softmax", kernel_initializer=initializer, name="output"))
    if api == "sequential":
        return keras.Sequential([images, *layers], name=model)
    outputs = images
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(images, outputs, name=model)


@keras.saving.register_keras_serializable("fashion")
class DenseLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A dense layer of our own: float32 [N, inputs] -> `activation(inputs @ kernel + bias)`, float32 [N, units]."""

    def __init__(self, units: int, activation: str, kernel_initializer: str = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the kernel [inputs, units] and the bias [units] once the input's width is known."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """The layer's output for one batch."""
        return self.activation(keras.ops.add(keras.ops.matmul(inputs, self.kernel), self.bias))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for an equal layer."""
        own = {
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("fashion")
class SubclassedModel(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """The model as a subclass of keras.Model; `hidden_units` None makes the perceptron."""

    def __init__(self, hidden_units: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_units = hidden_units
        self.flatten = keras.layers.Flatten(name="flatten")
        self.hidden = None if hidden_units is None else DenseLayer(hidden_units, "relu", name="hidden")
        initializer = "zeros" if hidden_units is None else "glorot_uniform"
        self.classifier = DenseLayer(OUTPUT_UNITS, "softmax", initializer, name="output")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the layers for images [N, height, width]."""
        shape = self.flatten.compute_output_shape(input_shape)
        if self.hidden is not None:
            self.hidden.build(shape)
            shape = (None, self.hidden_units)
        self.classifier.build(shape)
        self.built = True

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Class probabilities for one batch of images."""
        outputs = self.flatten(images)
        if self.hidden is not None:
            outputs = self.hidden(outputs)
        return self.classifier(outputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for an equal model."""
        return {**super().get_config(), "hidden_units": self.hidden_units}
