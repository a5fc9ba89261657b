"""A Transport for tests: gives the answers it was made with, and keeps the calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.errors import ServerError
from client.types import Call, Calls, Metadata, ModelSpec, Output, Signature, TensorInfo, VersionStatus

_IMAGES = {"images": TensorInfo("DT_UINT8", (-1, 28, 28))}
_ANSWERS = {"probabilities": TensorInfo("DT_FLOAT", (-1, 10))}


def _metadata() -> Metadata:
    return Metadata("fashion_mnist", 1, {"serving_default": Signature(_IMAGES, _ANSWERS, "tensorflow/serving/predict")})


@dataclass
class FakeTransport:
    """Answers every image with 0.91 for `class_id` and 0.01 for each other class.

    `errors` are raised first, one a call; `asked` holds the Call of each predict, in order. For tests of code that
    takes a Connection: `Connection([FakeTransport(class_id=9)], ModelSpec())`.
    """

    class_id: int = 0
    versions: list[VersionStatus] = field(default_factory=lambda: [VersionStatus(1, "AVAILABLE")])
    model_metadata: Metadata = field(default_factory=_metadata)
    errors: list[ServerError] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)
    closed: bool = False

    def predict(self, model: ModelSpec, calls: Calls, *, timeout: float) -> dict[str, Output]:
        """See FakeTransport."""
        del model, timeout
        self._fail()
        call = next(calls())
        self.asked.append(call)
        [tensor] = call.inputs.values()
        row = [0.91 if class_id == self.class_id else 0.01 for class_id in range(10)]
        return {"probabilities": Output((tensor.shape[0], 10), row * tensor.shape[0])}

    def status(self, model: ModelSpec, *, timeout: float) -> list[VersionStatus]:
        """The `versions`."""
        del model, timeout
        self._fail()
        return self.versions

    def metadata(self, model: ModelSpec, *, timeout: float) -> Metadata:
        """The `model_metadata`."""
        del model, timeout
        self._fail()
        return self.model_metadata

    def close(self) -> None:
        """Sets `closed`."""
        self.closed = True

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
