"""A Transport for tests: gives the answers it was made with, and keeps the calls."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from client.errors import ServerError
from client.transports.base import Exchange
from client.types import Call, Calls, Metadata, ModelSpec, Output, Signature, Tensor, TensorInfo, VersionStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from serving.apis.tensors import Array

_IMAGES = {"images": TensorInfo("DT_UINT8", (-1, 28, 28))}
_ANSWERS = {"probabilities": TensorInfo("DT_FLOAT", (-1, 10))}
_METADATA = Metadata(
    "fashion_mnist", 1, {"serving_default": Signature(_IMAGES, _ANSWERS, "tensorflow/serving/predict")}
)


@dataclass
class FakeTransport:
    """Answers every image with 0.91 for `class_id` and 0.01 for each other class.

    `errors` are raised first, one a request; `asked` holds the Call of each predict, in order. For tests of code that
    takes a Connection: `Connection([FakeTransport(class_id=9)], ModelSpec())`.
    """

    class_id: int = 0
    versions: list[VersionStatus] = field(default_factory=lambda: [VersionStatus(1, "AVAILABLE")])
    model_metadata: Metadata = _METADATA
    errors: list[ServerError] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)
    closed: bool = False

    @property
    def wire(self) -> FakeTransport:
        """Itself."""
        return self

    def predict(self, _model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
        """Read as the `outputs` of the first call."""
        return Exchange(next(calls()), self.outputs)

    def infer(self, _model: ModelSpec, call: Call, signature: Signature) -> Exchange[dict[str, Array]]:
        """Read as the `outputs` of the call, as arrays."""
        from client.transports.rest_messages import output_arrays

        return Exchange(call, lambda call: output_arrays(self.outputs(call), signature))

    def message(self, request: Message) -> Exchange[Any]:
        """Read as the response to a PredictRequest, of any signature."""
        return Exchange(request, self._response)

    def status(self, _model: ModelSpec) -> Exchange[list[VersionStatus]]:
        """Read as the `versions`."""
        return Exchange(None, lambda _: self.versions)

    def metadata(self, _model: ModelSpec) -> Exchange[Metadata]:
        """Read as the `model_metadata`."""
        return Exchange(None, lambda _: self.model_metadata)

    def metrics(self) -> Exchange[str]:
        """Read as no text."""
        return Exchange(None, lambda _: "")

    def outputs(self, call: Call) -> dict[str, Output]:
        """The answer to a call, which is kept."""
        self.asked.append(call)
        [tensor] = call.inputs.values()
        row = [0.91 if class_id == self.class_id else 0.01 for class_id in range(10)]
        return {"probabilities": Output((tensor.shape[0], 10), row * tensor.shape[0])}

    def _response(self, request: Any) -> Message:
        from serving.apis.messages import PredictResponse
        from serving.apis.tensors import data_type_name, make_tensor_proto

        inputs = {
            name: Tensor(
                data_type_name(proto.dtype), tuple(dim.size for dim in proto.tensor_shape.dim), proto.tensor_content
            )
            for name, proto in request.inputs.items()
        }
        [(name, output)] = self.outputs(Call(request.model_spec.signature_name, inputs)).items()
        rows = [output.values[start : start + 10] for start in range(0, len(output.values), 10)]
        return PredictResponse(model_spec=request.model_spec, outputs={name: make_tensor_proto(rows, dtype=1)})

    def send(self, request: Any, _timeout: float) -> Any:
        """The request is its response."""
        if self.errors:
            raise self.errors.pop(0)
        return request

    def client_errors(self, _timeout: float, /) -> nullcontext[None]:
        """Nothing else is raised."""
        return nullcontext()

    def diagnosis(self) -> str:
        """Nothing is wrong."""
        return ""

    def close(self) -> Any:
        """Sets `closed`."""
        self.closed = True
