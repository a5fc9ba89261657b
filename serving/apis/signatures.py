"""Signatures as a model's metadata tell them, free of protobuf and numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from serving.apis import messages

# TensorFlow keeps entries such as __saved_model_init_op among the signatures; they cannot be run.
INTERNAL = "__"
DEFAULT_SIGNATURE = "serving_default"
# REST answers outputs whose names end so as bytes, not as text.
BYTES_SUFFIX = "_bytes"


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a signature: DataType's name, and the shape, -1 for a free size, None for any rank."""

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        """The shape for people: `[N, 28, 28]`, `[...]` for any rank."""
        sizes = ["..."] if self.shape is None else ["N" if size < 0 else str(size) for size in self.shape]
        return f"[{', '.join(sizes)}]"


@dataclass(frozen=True)
class Signature:
    """One signature of a served model."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: str

    @property
    def method(self) -> Literal["predict", "classify", "regress"]:
        """How it is asked; predict takes any, also one whose method has another name."""
        method = self.method_name.rpartition("/")[2]
        return method if method in ("classify", "regress") else "predict"  # type: ignore[return-value]


def signatures(definitions: Mapping[str, messages.SignatureDef]) -> dict[str, Signature]:
    """Those that can be run, their tensors too by name."""
    return {
        name: Signature(_infos(definition.inputs), _infos(definition.outputs), definition.method_name)
        for name, definition in sorted(definitions.items())
        if not name.startswith(INTERNAL)
    }


def _infos(infos: Mapping[str, messages.TensorInfo]) -> dict[str, TensorInfo]:
    from serving.apis.messages import POOL

    names = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_number
    return {
        name: TensorInfo(
            names[info.dtype].name,
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }
