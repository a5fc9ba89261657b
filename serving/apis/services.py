"""The methods of TF Serving's two services, as both ends of a connection need them."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf import message_factory
from google.protobuf.message import Message

from serving.apis import messages

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PROFILER_SERVICE = "tensorflow.ProfilerService"


class Method(NamedTuple):
    """One unary gRPC method, by the full name of its service and its own."""

    service: str
    name: str

    @property
    def path(self) -> str:
        """The path of the HTTP/2 request: `/tensorflow.serving.PredictionService/Predict`."""
        return f"/{self.service}/{self.name}"

    @property
    def request_class(self) -> type[Message]:
        """The request's message class."""
        return message_factory.GetMessageClass(messages.service(self.service).methods_by_name[self.name].input_type)

    @property
    def response_class(self) -> type[Message]:
        """The response's message class."""
        return message_factory.GetMessageClass(messages.service(self.service).methods_by_name[self.name].output_type)


PREDICT = Method(PREDICTION_SERVICE, "Predict")
CLASSIFY = Method(PREDICTION_SERVICE, "Classify")
REGRESS = Method(PREDICTION_SERVICE, "Regress")
MULTI_INFERENCE = Method(PREDICTION_SERVICE, "MultiInference")
GET_MODEL_METADATA = Method(PREDICTION_SERVICE, "GetModelMetadata")
GET_MODEL_STATUS = Method(MODEL_SERVICE, "GetModelStatus")
HANDLE_RELOAD_CONFIG_REQUEST = Method(MODEL_SERVICE, "HandleReloadConfigRequest")
