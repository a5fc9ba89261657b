"""The three forms of the two models are the same function of the same weights."""

from __future__ import annotations

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
