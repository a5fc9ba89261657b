"""What stands in for the model while training computes the same once it is folded."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.data.dataset import Dataset
from training.fit import models, networks
from training.fit.evaluate import predict
from training.recipes import resolve


@pytest.mark.parametrize("helpers", [{"batch_norm": True}, {"batch_norm": True, "dropout": 0.3}, {"dropout": 0.3}])
@pytest.mark.parametrize("api", ["sequential", "subclassed"])
def test_folded_model_equals_the_trained_network(helpers: dict[str, float], api: str, synthetic_data: Dataset) -> None:
    """Normalisation and dropout are gone, and every probability is as before, within 1e-5."""
    config = resolve("fast", api=api, **{"batch_norm": False, **helpers})
    model = models.build("mlp", api)
    network = networks.training_network(config, model)
    generator = np.random.default_rng(0)
    for variable in network.weights:
        shape = variable.shape
        variable.assign(generator.normal(0, 0.05, shape) if len(shape) > 1 else generator.uniform(0.5, 1.5, shape))
    networks.fold(network, model)
    assert model.count_params() == 101_770
    expected = predict(network, synthetic_data.test_images)
    np.testing.assert_allclose(predict(model, synthetic_data.test_images), expected, atol=1e-5)


def test_without_helpers_the_model_itself_is_trained() -> None:
    """Nothing stands in for it."""
    model = models.build()
    assert networks.training_network(resolve("textbook"), model) is model


@pytest.mark.parametrize(
    ("helpers", "expected"),
    [
        (
            {"batch_norm": True, "dropout": 0.3, "seed": 5},
            ["Flatten", "hidden 128 linear", "normalization 0.9", "ReLU", "Dropout 0.3 of seed 5", "output 10 softmax"],
        ),
        ({"batch_norm": True}, ["Flatten", "hidden 128 linear", "normalization 0.9", "ReLU", "output 10 softmax"]),
        (
            {"batch_norm": False, "dropout": 0.5, "seed": 6},
            ["Flatten", "hidden 128 linear + bias", "ReLU", "Dropout 0.5 of seed 6", "output 10 softmax"],
        ),
    ],
    ids=["both", "normalisation", "dropout"],
)
def test_helpers_stand_around_the_hidden_units(helpers: dict[str, float], expected: list[str]) -> None:
    """Normalisation before the activation, dropout behind it, as the configuration has them."""

    def told(layer: keras.layers.Layer) -> str:
        if isinstance(layer, keras.layers.Dense):
            bias = " + bias" if layer.use_bias and layer.name != "output" else ""
            return f"{layer.name} {layer.units} {layer.activation.__name__}{bias}"
        if isinstance(layer, keras.layers.BatchNormalization):
            return f"{layer.name} {layer.momentum}"
        if isinstance(layer, keras.layers.Dropout):
            return f"Dropout {layer.rate} of seed {layer.seed}"
        return type(layer).__name__

    network = networks.training_network(resolve("fast", **helpers), models.build())
    assert network.input_shape == (None, 28, 28)
    assert [told(layer) for layer in network.layers[1:]] == expected
    assert network.get_layer("output").use_bias


def test_the_teacher_is_a_small_convolutional_network() -> None:
    """Two convolutions and a dense layer, each normalised, with dropout around the last: 825,514 weights."""
    teacher = networks.teacher()
    assert (teacher.name, teacher.count_params()) == ("teacher", 825_514)
    assert [(type(layer).__name__, layer.output.shape[1:]) for layer in teacher.layers] == [
        ("InputLayer", (28, 28)),
        ("Reshape", (28, 28, 1)),
        ("Conv2D", (28, 28, 32)),
        ("BatchNormalization", (28, 28, 32)),
        ("ReLU", (28, 28, 32)),
        ("MaxPooling2D", (14, 14, 32)),
        ("Conv2D", (14, 14, 64)),
        ("BatchNormalization", (14, 14, 64)),
        ("ReLU", (14, 14, 64)),
        ("MaxPooling2D", (7, 7, 64)),
        ("Flatten", (3136,)),
        ("Dropout", (3136,)),
        ("Dense", (256,)),
        ("BatchNormalization", (256,)),
        ("ReLU", (256,)),
        ("Dropout", (256,)),
        ("Dense", (10,)),
    ]
    assert [layer.rate for layer in teacher.layers if isinstance(layer, keras.layers.Dropout)] == [0.3, 0.3]
    assert [layer.use_bias for layer in teacher.layers if hasattr(layer, "use_bias")] == [False, False, False, True]
    assert teacher.layers[-1].activation is keras.activations.softmax
