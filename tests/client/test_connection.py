"""What a Connection makes of images and answers, over a FakeTransport."""

from __future__ import annotations

import numpy as np
import pytest

from client.connection import CLASS_NAMES, Connection, Prediction, connect
from client.errors import ClientUsageError, ServerError, server_error
from client.fake_transport import FakeTransport
from client.transport import Array, ModelSpec
from training.dataset import CLASS_NAMES as TRAINED_CLASS_NAMES


def _connection(transport: FakeTransport) -> Connection:
    return Connection(transport, ModelSpec(), timeout=1)


def test_images_go_to_serving_default_and_come_back_as_predictions() -> None:
    """Names come from the client's own table when the server answers probabilities only."""
    transport = FakeTransport(class_id=9)
    images = np.zeros((2, 28, 28), np.uint8)
    predictions = _connection(transport).predict(images)
    probabilities = tuple(np.float32(0.91 if index == 9 else 0.01).item() for index in range(10))
    assert predictions == [Prediction(9, "Ankle boot", probabilities[9], probabilities)] * 2
    [(signature_name, inputs)] = transport.asked
    assert signature_name == "serving_default"
    assert list(inputs) == ["images"]
    assert inputs["images"].dtype == np.uint8


def test_the_clients_class_names_are_those_of_training() -> None:
    """The client may not import training, so it has a table of its own."""
    assert CLASS_NAMES == TRAINED_CLASS_NAMES


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 784), np.uint8),
        np.zeros((28, 28), np.uint8),
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((1, 28, 28), np.float32),
    ],
    ids=["flat", "single", "empty", "float"],
)
def test_wrong_images_are_refused_before_anything_is_sent(images: Array) -> None:
    """A (1,784) tensor or unscaled floats would be answered with nonsense by the server."""
    transport = FakeTransport()
    with pytest.raises(ClientUsageError, match=r"images must be uint8 \[N, 28, 28\]"):
        _connection(transport).predict(images)
    assert transport.asked == []


def test_an_answer_without_probabilities_is_an_error() -> None:
    """The message says what was expected and what came."""

    class Other(FakeTransport):
        def predict(self, *_args: object, **_options: object) -> dict[str, Array]:  # type: ignore[override]
            return {"output_0": np.zeros((1, 3))}

    with pytest.raises(ServerError, match=r"expected the output probabilities \[1, 10\].*output_0.*\[1, 3\]"):
        _connection(Other()).predict(np.zeros((1, 28, 28), np.uint8))


def test_leaving_the_context_closes_the_transport_even_after_an_error() -> None:
    """The server's error passes through unchanged."""
    transport = FakeTransport(error=server_error("NOT_FOUND", "Servable not found for request: Latest(m)"))
    with pytest.raises(ServerError, match="NOT_FOUND: Servable not found") as caught, _connection(transport) as one:
        one.status()
    assert transport.closed
    assert caught.value.code == "NOT_FOUND"


def test_a_deadline_must_be_above_zero() -> None:
    """A deadline of zero could never be met."""
    with pytest.raises(ClientUsageError, match="--timeout takes seconds above 0"):
        connect(timeout=0)
