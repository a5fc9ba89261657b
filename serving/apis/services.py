"""The methods of TF Serving's two services, as both ends of a connection need them."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import Message

from serving.apis import messages

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PROFILER_SERVICE = "tensorflow.ProfilerService"


class Method(NamedTuple):
    """One unary gRPC method: its service, its name, and the full names of its two messages."""

    service: str
    name: str
    request: str
    response: str

    @property
    def path(self) -> str:
        """The path of the HTTP/2 request: `/tensorflow.serving.PredictionService/Predict`."""
        return f"/{self.service}/{self.name}"

    @property
    def request_class(self) -> type[Message]:
        """The request's message class."""
        return messages.message_class(self.request)

    @property
    def response_class(self) -> type[Message]:
        """The response's message class."""
        return messages.message_class(self.response)


def _prediction(name: str, message: str | None = None) -> Method:
    stem = f"tensorflow.serving.{message or name}"
    return Method(PREDICTION_SERVICE, name, f"{stem}Request", f"{stem}Response")


PREDICT = _prediction("Predict")
CLASSIFY = _prediction("Classify", "Classification")
REGRESS = _prediction("Regress", "Regression")
MULTI_INFERENCE = _prediction("MultiInference")
GET_MODEL_METADATA = _prediction("GetModelMetadata")
GET_MODEL_STATUS = Method(
    MODEL_SERVICE,
    "GetModelStatus",
    "tensorflow.serving.GetModelStatusRequest",
    "tensorflow.serving.GetModelStatusResponse",
)
HANDLE_RELOAD_CONFIG_REQUEST = Method(
    MODEL_SERVICE,
    "HandleReloadConfigRequest",
    "tensorflow.serving.ReloadConfigRequest",
    "tensorflow.serving.ReloadConfigResponse",
)
METHODS = (
    PREDICT,
    CLASSIFY,
    REGRESS,
    MULTI_INFERENCE,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HANDLE_RELOAD_CONFIG_REQUEST,
)
