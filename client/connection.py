"""A connection to a model server: images in, predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from client.address import DEFAULT_SERVER, ServerAddress
from client.errors import ClientUsageError, ServerError
from client.transport import Array, ModelSpec, Transport, VersionStatus

IMAGE_SHAPE = (28, 28)
SIGNATURE_NAME = "serving_default"
# In label order (Xiao et al. 2017, https://arxiv.org/abs/1708.07747); for servers that answer probabilities only.
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    `class_id` is 0 to 9, `class_name` its name, `probability` that class's share of 1, `probabilities` all ten.
    """

    class_id: int
    class_name: str
    probability: float
    probabilities: tuple[float, ...]


class Connection:
    """One model on one server. A context manager, safe to use from several threads."""

    def __init__(self, transport: Transport, model: ModelSpec, *, timeout: float) -> None:
        self._transport = transport
        self.model = model
        self._timeout = timeout

    def predict(self, images: Array | Sequence[Array]) -> list[Prediction]:
        """Classifies images.

        images: uint8 [N, 28, 28], raw pixels from 0 (background) to 255; or a sequence of N arrays [28, 28].
        Raises ClientUsageError for another shape or dtype, ServerError for what the server answers.
        """
        batch = _checked(images)
        outputs = self._transport.predict(self.model, SIGNATURE_NAME, {"images": batch}, timeout=self._timeout)
        return _predictions(outputs, len(batch))

    def status(self) -> list[VersionStatus]:
        """The state of the model's versions, the newest first. Raises ServerError."""
        return self._transport.status(self.model, timeout=self._timeout)

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def connect(server: str = DEFAULT_SERVER, *, model: ModelSpec | None = None, timeout: float = 10.0) -> Connection:
    """A connection to `grpc://HOST:PORT` or `http://HOST:PORT`; nothing is sent yet.

    model: which model and version; the newest version of `fashion_mnist` by default.
    timeout: the deadline of every call, in seconds.
    Raises ClientUsageError for a bad address or deadline.
    """
    if not timeout > 0:
        raise ClientUsageError(f"a deadline of {timeout:g} s cannot be met: --timeout takes seconds above 0")
    address = ServerAddress.parse(server)
    return Connection(_transport(address), model or ModelSpec(), timeout=timeout)


def _transport(address: ServerAddress) -> Transport:
    if address.scheme == "grpc":
        from client.grpc_transport import GrpcTransport

        return GrpcTransport(address)
    from client.rest_transport import RestTransport

    return RestTransport(address)


def _checked(images: Array | Sequence[Array]) -> Array:
    batch = np.asarray(images)
    if batch.dtype != np.uint8 or batch.shape[1:] != IMAGE_SHAPE or not len(batch):
        raise ClientUsageError(
            f"images must be uint8 [N, 28, 28] with N above 0, raw pixels from 0 to 255: got {batch.dtype} "
            f"{list(batch.shape)}"
        )
    return batch


def _predictions(outputs: dict[str, Array], count: int) -> list[Prediction]:
    probabilities = outputs.get("probabilities")
    if probabilities is None or probabilities.shape != (count, len(CLASS_NAMES)):
        got = {name: list(array.shape) for name, array in outputs.items()}
        raise ServerError("INTERNAL", f"expected the output probabilities [{count}, 10], the server answered {got}")
    class_ids = outputs["class_ids"].tolist() if "class_ids" in outputs else probabilities.argmax(axis=1).tolist()
    class_names = (
        [name.decode() for name in outputs["class_names"].tolist()]
        if "class_names" in outputs
        else [CLASS_NAMES[class_id] for class_id in class_ids]
    )
    return [
        Prediction(class_id, class_name, row[class_id], tuple(row))
        for class_id, class_name, row in zip(class_ids, class_names, probabilities.tolist(), strict=True)
    ]
