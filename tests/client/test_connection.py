"""A Connection over FakeTransports: the calls it makes of images, the predictions it makes of answers, its attempts."""

from __future__ import annotations

import numpy as np
import pytest

from client.connection import Connection, connect
from client.errors import ClientUsageError, ServerError, server_error
from client.pictures.batch import Batch
from client.transports.fake import FakeTransport
from client.types import Calls, Metadata, ModelSpec, Output, Prediction, Signature, TensorInfo

_PREDICT = "tensorflow/serving/predict"


def _connection(*transports: FakeTransport, timeout: float = 1) -> Connection:
    return Connection(transports, ModelSpec(), timeout=timeout)


def _serving(**signatures: Signature) -> FakeTransport:
    return FakeTransport(model_metadata=Metadata("m", 1, signatures))


def _takes(dtype: str, *shape: int, name: str = "images", method_name: str = _PREDICT) -> Signature:
    return Signature({name: TensorInfo(dtype, shape)}, {"output_0": TensorInfo("DT_FLOAT", (-1, 10))}, method_name)


def test_images_go_to_serving_default_and_come_back_as_predictions() -> None:
    """As uint8, 784 bytes an image; names come from the client's own table when the server gives none."""
    transport = FakeTransport(class_id=9)
    images = np.arange(2 * 784, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    predictions = _connection(transport).predict(images)
    row = tuple(0.91 if index == 9 else 0.01 for index in range(10))
    assert predictions == [Prediction(9, "Ankle boot", 0.91, row)] * 2
    [(signature_name, inputs)] = transport.asked
    assert (signature_name, dict(inputs)) == (
        "serving_default",
        {"images": ("DT_UINT8", (2, 28, 28), images.tobytes())},
    )


def test_a_sequence_of_images_is_a_batch() -> None:
    """Arrays [28, 28], in order."""
    transport = FakeTransport()
    images = [np.full((28, 28), value, np.uint8) for value in (1, 2)]
    assert len(_connection(transport).predict(images)) == 2
    assert transport.asked[0].inputs["images"].content == b"\1" * 784 + b"\2" * 784


def test_top_gives_the_likeliest_classes_first() -> None:
    """Ties keep the label order."""
    [prediction] = _connection(FakeTransport(class_id=8)).predict(np.zeros((1, 28, 28), np.uint8))
    assert prediction.top(3) == [("Bag", 0.91), ("T-shirt/top", 0.01), ("Trouser", 0.01)]


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (np.zeros((1, 784), np.uint8), r"got uint8 \[1, 784\]: images.reshape\(-1, 28, 28\) would fit"),
        (np.zeros((28, 28), np.uint8), r"got uint8 \[28, 28\]"),
        (np.zeros((0, 28, 28), np.uint8), r"N above 0, got uint8 \[0, 28, 28\]"),
        ([], "no images"),
        (np.zeros((1, 28, 28), np.int64), r"got int64 .*astype\('uint8'\)"),
        (np.full((1, 28, 28), 200, np.float32), r"must be scaled to 0..1, got 200 to 200: send uint8 pixels"),
        (np.full((1, 28, 28), np.nan, np.float32), r"must be scaled to 0..1"),
        ([[1, 2]], "must be arrays such as numpy's, not list"),
    ],
    ids=["flat", "single", "empty", "none", "int64", "unscaled", "nan", "lists"],
)
def test_wrong_images_are_refused_before_anything_is_sent(images: np.ndarray, why: str) -> None:
    """A (1,784) tensor or unscaled floats would be answered with nonsense by the server."""
    transport = FakeTransport()
    with pytest.raises(ClientUsageError, match=why):
        _connection(transport).predict(images)
    assert transport.asked == []


def test_floats_go_where_floats_are_taken_and_nowhere_else() -> None:
    """The message says what the signature takes, what was sent, and which one would work."""
    floats = np.full((1, 28, 28), 0.5, np.float32)
    transport = _serving(serving_default=_takes("DT_UINT8", -1, 28, 28), float_images=_takes("DT_FLOAT", -1, 28, 28))
    with pytest.raises(
        ClientUsageError,
        match=r"'serving_default' takes DT_UINT8 \[N, 28, 28\], not DT_FLOAT \[1, 28, 28\]: --signature float_images",
    ):
        _connection(transport).predict(floats)
    _connection(transport).predict(floats, signature_name="float_images")
    assert transport.asked[0].inputs["images"] == ("DT_FLOAT", (1, 28, 28), floats.tobytes())


@pytest.mark.parametrize("shape", [(-1, 28, 28), (-1, 784), (-1, 28, 28, 1)])
def test_a_plain_keras_export_works_too(shape: tuple[int, ...]) -> None:
    """`keras_tensor` -> `output_0`: pixels are scaled to 0..1 and take the signature's form."""
    transport = _serving(serving_default=_takes("DT_FLOAT", *shape, name="keras_tensor"))
    pixels = np.arange(784, dtype=np.uint32).reshape(1, 28, 28).astype(np.uint8)
    [prediction] = _connection(transport).predict(pixels)
    assert prediction.class_name == "T-shirt/top"
    tensor = transport.asked[0].inputs["keras_tensor"]
    assert (tensor.dtype, tensor.shape) == ("DT_FLOAT", (1, *shape[1:]))
    assert tensor.content == (pixels.astype(np.float32) / np.float32(255)).tobytes()


def test_a_signature_that_takes_no_images_is_refused_with_what_it_takes() -> None:
    """Unknown names list the known ones; other shapes, dtypes and several inputs say what they are."""
    two = Signature({"a": TensorInfo("DT_UINT8", (-1, 28, 28)), "b": TensorInfo("DT_UINT8", (-1,))}, {}, _PREDICT)
    transport = _serving(
        small=_takes("DT_UINT8", -1, 8, 8), one=_takes("DT_UINT8", 1, 28, 28), ints=_takes("DT_INT32", -1, 784), two=two
    )
    images = np.zeros((2, 28, 28), np.uint8)
    for name, why in (
        (None, r"m has no signature 'serving_default': it has small, one, ints, two"),
        ("small", r"takes DT_UINT8|takes \[N, 8, 8\], which no images of 28x28 fit"),
        ("one", r"takes 1 images at a time, not 2: --batch-size 1"),
        ("ints", r"takes DT_INT32 \[N, 784\], not DT_UINT8 \[2, 28, 28\]"),
        ("two", r"takes 2 inputs"),
    ):
        with pytest.raises(ClientUsageError, match=why):
            _connection(transport).predict(images, signature_name=name)
    assert transport.asked == []


def test_large_batches_are_split_below_the_message_limit() -> None:
    """4 MB is what a gRPC peer takes unless it was told otherwise; order is kept."""
    transport = FakeTransport()
    images = np.zeros((6000, 28, 28), np.uint8)
    assert len(_connection(transport).predict(images)) == 6000
    sizes = [len(call.inputs["images"].content) for call in transport.asked]
    assert len(sizes) == 2
    assert sum(sizes) == images.nbytes
    assert max(sizes) < 4 * 1024 * 1024


def test_an_answer_without_probabilities_is_an_error() -> None:
    """The message has the shape that was expected, and those of the answer."""

    class Other(FakeTransport):
        def predict(self, *_args: object, **_options: object) -> dict[str, Output]:
            return {"output_0": Output((1, 3), [0.1, 0.2, 0.7])}

    with pytest.raises(ServerError, match=r"expected the probabilities \[1, 10\].*output_0.*\[1, 3\]"):
        _connection(Other()).predict(np.zeros((1, 28, 28), np.uint8))


@pytest.mark.parametrize(
    "odd",
    [
        {"class_ids": Output((2,), [0])},
        {"class_ids": Output((2,), [0, 10])},
        {"class_names": Output((2,), [b"Bag"])},
    ],
    ids=["one id", "no such class", "one name"],
)
def test_classes_that_do_not_fit_the_probabilities_are_an_error(odd: dict[str, Output]) -> None:
    """Raised when the answer comes, before the first prediction is taken."""

    class Odd(FakeTransport):
        def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
            return {**super().predict(model, calls, timeout=timeout), **odd}

    with pytest.raises(ServerError, match="class_ids and class_names do not fit its probabilities"):
        _connection(Odd()).predict_lazily(Batch("DT_UINT8", bytes(2 * 784)))


def test_metadata_is_read_once() -> None:
    """Not once a call."""

    class Counting(FakeTransport):
        count = 0

        def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
            self.count += 1
            return super().metadata(model, timeout=timeout)

    transport = Counting()
    connection = _connection(transport)
    for _ in range(3):
        connection.predict(np.zeros((1, 28, 28), np.uint8))
    assert transport.count == 1


def test_unavailable_is_tried_again_and_other_errors_are_not() -> None:
    """Three rounds at most; the pause is inside the deadline."""
    unavailable = server_error("UNAVAILABLE", "gone")
    transport = FakeTransport(errors=[unavailable, unavailable])
    assert _connection(transport).status()[0].state == "AVAILABLE"
    transport = FakeTransport(errors=[unavailable] * 3)
    with pytest.raises(ServerError, match="gone"):
        _connection(transport).status()
    transport = FakeTransport(errors=[server_error("INTERNAL", "broken")])
    with pytest.raises(ServerError, match="broken"):
        _connection(transport).status()
    with pytest.raises(ServerError, match=r"DEADLINE_EXCEEDED: no server in time; last: UNAVAILABLE: gone"):
        _connection(FakeTransport(errors=[unavailable]), timeout=0.01).status()


def test_several_servers_are_asked_in_turn_and_survive_one_dying() -> None:
    """Round robin over those that answer; the next one is asked at once."""
    first, second = FakeTransport(), FakeTransport()
    connection = _connection(first, second)
    image = np.zeros((1, 28, 28), np.uint8)
    connection.metadata()
    for _ in range(4):
        connection.predict(image)
    assert (len(first.asked), len(second.asked)) == (2, 2)
    first.errors = [server_error("UNAVAILABLE", "died")] * 100
    for _ in range(4):
        connection.predict(image)
    assert (len(first.asked), len(second.asked)) == (2, 6)


def test_leaving_the_context_closes_the_transports_even_after_an_error() -> None:
    """The server's error passes through unchanged."""
    transport = FakeTransport(errors=[server_error("NOT_FOUND", "Servable not found for request: Latest(m)")])
    with (
        pytest.raises(ServerError, match="NOT_FOUND: Servable not found") as caught,
        _connection(transport) as connection,
    ):
        connection.status()
    assert transport.closed
    assert caught.value.code == "NOT_FOUND"


def test_a_deadline_must_be_above_zero() -> None:
    """A deadline of zero could never be met."""
    with pytest.raises(ClientUsageError, match="--timeout takes seconds above 0"):
        connect(timeout=0)
