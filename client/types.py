"""What passes through the client: models, tensors, answers; free of numpy, whose import takes longer than an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE, MODEL_NAME
from serving.apis.signatures import INTERNAL, Signature, TensorInfo

__all__ = [
    "IMAGE_BYTES",
    "INTERNAL",
    "Call",
    "Calls",
    "Metadata",
    "ModelSpec",
    "Output",
    "Prediction",
    "Preprocess",
    "Signature",
    "Tensor",
    "TensorInfo",
    "VersionStatus",
]

IMAGE_BYTES = math.prod(IMAGE_SHAPE)
# What a picture goes through before it is sent (client.pictures.images.read_image).
Preprocess = Literal["auto", "photo", "none"]


@dataclass(frozen=True)
class ModelSpec:
    """Which model, and which of its versions: a number, a label, or neither for the newest."""

    name: str = MODEL_NAME
    version: int | None = None
    version_label: str | None = None


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version, in TF Serving's words.

    `state` is START, LOADING, AVAILABLE, UNLOADING or END; `error_code` a gRPC status code's name, OK when all is well.
    `runtime` is what serves it, tensorflow or litert; "" where the server does not tell.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""
    runtime: str = ""


@dataclass(frozen=True)
class Metadata:
    """A served model: its name, the version that answered, and its signatures by name."""

    model_name: str
    version: int
    signatures: dict[str, Signature]


class Tensor(NamedTuple):
    """An input: DataType's name, its shape, and its content.

    content: the little-endian bytes of numbers (TensorProto's `tensor_content`), or a list of bytes for DT_STRING.
    """

    dtype: str
    shape: tuple[int, ...]
    content: bytes | Sequence[bytes]


class Call(NamedTuple):
    """One run of a signature: its name, its inputs by name, and the outputs that are wanted (none: all)."""

    signature_name: str
    inputs: Mapping[str, Tensor]
    output_filter: Sequence[str] = ()


# Gives calls for the same images, each made when it is taken: gRPC need not wait for PNG bytes that it does not send.
Calls = Callable[[], Iterator[Call]]


class Output(NamedTuple):
    """An output: its shape and its values, flat in row-major order."""

    shape: tuple[int, ...]
    values: Sequence[float | bytes]


class ClassScore(NamedTuple):
    """A class that Classify answers for an example: its label, "" where the model has none, and its score."""

    label: str
    score: float


class Prediction(NamedTuple):
    """The model's answer for one image.

    `class_id` is 0 to 9, `class_name` its name, `probability` that class's share of 1, `probabilities` all ten.
    """

    class_id: int
    class_name: str
    probability: float
    probabilities: tuple[float, ...]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes: name and probability, the likeliest first."""
        order = sorted(range(len(self.probabilities)), key=lambda class_id: -self.probabilities[class_id])
        return [(CLASS_NAMES[class_id], self.probabilities[class_id]) for class_id in order[:k]]
