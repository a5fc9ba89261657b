"""What stands in for the model while training computes the same once it is folded."""

from __future__ import annotations

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
