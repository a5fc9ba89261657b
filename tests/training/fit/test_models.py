"""The three forms of the two models are the same function of the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.data.dataset import Dataset
from training.fit import models
from training.fit.evaluate import predict

APIS = ["sequential", "functional", "subclassed"]


@pytest.mark.parametrize(("model", "parameters"), [("perceptron", 7_850), ("mlp", 101_770)])
def test_three_forms_agree_on_one_set_of_weights(model: str, parameters: int, synthetic_data: Dataset) -> None:
    """Same parameters, same shapes, same outputs."""
    forms = [models.build(model, api) for api in APIS]
    generator = np.random.default_rng(0)
    weights = [generator.normal(0, 0.1, weight.shape) for weight in forms[0].get_weights()]
    for form in forms:
        assert form.count_params() == parameters
        form.set_weights(weights)
    outputs = [predict(form, synthetic_data.test_images) for form in forms]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[0].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("api", APIS)
def test_perceptron_starts_from_zero(api: str, synthetic_data: Dataset) -> None:
    """With zero weights every class is equally probable."""
    untrained = predict(models.build("perceptron", api), synthetic_data.test_images[:5])
    np.testing.assert_allclose(untrained, 0.1, atol=1e-7)


def test_own_layer_can_be_made_again_from_its_configuration() -> None:
    """`get_config` holds all that the constructor needs."""
    layer = models.DenseLayer(7, "relu", "zeros", name="mine")
    again = models.DenseLayer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.units == 7
    assert (again.name, again.activation) == ("mine", keras.activations.relu)
    assert isinstance(again.kernel_initializer, keras.initializers.Zeros)


def test_own_layer_draws_its_kernel_unless_told_otherwise() -> None:
    """As Keras's Dense does; its bias begins with zeros."""
    layer = models.DenseLayer(7, "relu")
    layer.build((None, 3))
    assert isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform)
    assert (layer.kernel.shape, layer.kernel.name) == ((3, 7), "kernel")
    assert (layer.bias.shape, layer.bias.name) == ((7,), "bias")
    assert not layer.bias.numpy().any()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("perceptron", ["flatten", "output"]),
        ("mlp", ["flatten", "hidden", "output"]),
    ],
)
def test_layers_have_the_same_names_in_every_form(model: str, names: list[str], api: str) -> None:
    """The model is called as what was asked for; only the mlp's kernels are drawn."""
    made = models.build(model, api)
    assert made.name == model
    assert [layer.name for layer in made.layers if layer.name != "images"] == names
    assert [bool(weight.any()) for weight in made.get_weights()] == (
        [True, False, True, False] if model == "mlp" else [False, False]
    )
    if api == "functional":
        assert made.inputs[0].name == "images"


@pytest.mark.parametrize(("model", "hidden_units"), [("perceptron", None), ("mlp", 128)])
def test_own_model_can_be_made_again_from_its_configuration(model: str, hidden_units: int | None) -> None:
    """With its name and its hidden units; it counts as built at once."""
    made = models.build(model, "subclassed")
    assert made.built
    again = models.SubclassedModel.from_config(made.get_config())
    assert (again.name, again.hidden_units) == (model, hidden_units)


def test_the_mlp_in_its_sequential_form_is_built_by_default() -> None:
    """What the recipes train."""
    made = models.build()
    assert (type(made), made.name) == (keras.Sequential, "mlp")
