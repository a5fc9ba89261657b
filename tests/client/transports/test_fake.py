"""The transport for tests: what it answers, and what it keeps."""

from __future__ import annotations

import numpy as np

from client.connection import Connection
from client.errors import ServerError, server_error
from client.transports.fake import FakeTransport
from client.types import ModelSpec, Signature, TensorInfo, VersionStatus
from serving.apis.messages import PredictRequest
from serving.apis.tensors import make_ndarray, make_tensor_proto


def test_every_method_is_answered() -> None:
    """One version, one signature, ten probabilities an image of which one is 0.91; no metrics."""
    transport = FakeTransport(class_id=3)
    row = [0.91 if class_id == 3 else 0.01 for class_id in range(10)]
    with Connection([transport], ModelSpec()) as connection:
        assert connection.status() == [VersionStatus(1, "AVAILABLE")]
        metadata = connection.metadata()
        assert (metadata.model_name, metadata.version) == ("fashion_mnist", 1)
        assert metadata.signatures == {
            "serving_default": Signature(
                {"images": TensorInfo("DT_UINT8", (-1, 28, 28))},
                {"probabilities": TensorInfo("DT_FLOAT", (-1, 10))},
                "tensorflow/serving/predict",
            )
        }
        images = np.zeros((2, 28, 28), np.uint8)
        assert [list(each.probabilities) for each in connection.predict(images)] == [row, row]
        np.testing.assert_array_equal(
            connection.infer({"images": images})["probabilities"], np.array([row, row], np.float32)
        )
        request = PredictRequest(inputs={"images": make_tensor_proto(images)})
        request.model_spec.name, request.model_spec.signature_name = "m", "s"
        response = connection.exchange(request)
        assert response.model_spec == request.model_spec
        np.testing.assert_array_equal(make_ndarray(response.outputs["probabilities"]), np.array([row, row], np.float32))
        assert (connection.metrics(), connection.diagnosis()) == ("", "")
        states = [transport.closed]
    assert [*states, transport.closed] == [False, True]
    assert [(call.signature_name, call.inputs["images"]) for call in transport.asked] == [
        ("serving_default", ("DT_UINT8", (2, 28, 28), images.tobytes())),
        ("serving_default", ("DT_UINT8", (2, 28, 28), images.tobytes())),
        ("s", ("DT_UINT8", (2, 28, 28), images.tobytes())),
    ]


def test_errors_come_first_and_in_order() -> None:
    """One a request; then it answers."""
    first, second = server_error("INTERNAL", "first"), server_error("NOT_FOUND", "second")
    connection = Connection([FakeTransport(errors=[first, second])], ModelSpec())
    raised = []
    for _ in range(2):
        try:
            connection.status()
        except ServerError as error:
            raised.append(error)
    assert raised == [first, second]
    assert connection.status() == [VersionStatus(1, "AVAILABLE")]
    assert FakeTransport().asked is not FakeTransport().asked
