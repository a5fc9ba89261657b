"""Images on their way to a signature and back: a batch, the calls that a model takes it by, the predictions."""

from __future__ import annotations

import array
import io
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from operator import itemgetter
from typing import Protocol, TypeAlias, cast, runtime_checkable

from client.errors import ClientUsageError, ServerError
from client.limits import MESSAGE_BYTES
from client.types import IMAGE_BYTES, Call, Metadata, Output, Prediction, Signature, Tensor, TensorInfo
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

DEFAULT_SIGNATURE_NAME = "serving_default"
_ENCODED = "encoded_images"
_CLASSIFY = "tensorflow/serving/classify"
_ITEM_BYTES = {"DT_UINT8": 1, "DT_FLOAT": 4}


@runtime_checkable
class ArrayLike(Protocol):
    """What the client needs of a numpy array, so that it need not import numpy itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""

    @property
    def dtype(self) -> object:
        """Its text is numpy's name of the dtype: `uint8`."""

    def tobytes(self) -> bytes:
        """The elements in row-major order."""


@dataclass(frozen=True)
class Batch:
    """N images [N, 28, 28] in row-major order: uint8 pixels 0 to 255 (DT_UINT8) or float32 0 to 1 (DT_FLOAT)."""

    dtype: str
    content: bytes

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.content) // (IMAGE_BYTES * _ITEM_BYTES[self.dtype])

    @classmethod
    def of(cls, images: Images) -> Batch:
        """From an array [N, 28, 28] or a sequence of arrays [28, 28], uint8 or float32 from 0 to 1; a Batch is itself.

        Raises ClientUsageError for another shape or dtype, no image at all, or floats that were not scaled.
        """
        if isinstance(images, Batch):
            return images
        arrays, rank = ([images], 3) if isinstance(images, ArrayLike) else (list(images), 2)
        if not arrays:
            raise ClientUsageError("no images: give an array [N, 28, 28] with N above 0")
        dtype = str(getattr(arrays[0], "dtype", ""))
        for array_like in arrays:
            if not isinstance(array_like, ArrayLike):
                raise ClientUsageError(f"images must be arrays such as numpy's, not {type(array_like).__name__}")
            shape = tuple(array_like.shape)
            if str(array_like.dtype) != dtype or len(shape) != rank or shape[-2:] != IMAGE_SHAPE or not shape[0]:
                raise ClientUsageError(_wrong_array(str(array_like.dtype), shape, rank))
        content = b"".join(array_like.tobytes() for array_like in arrays)
        if dtype == "uint8":
            return cls("DT_UINT8", content)
        if dtype == "float32":
            return cls("DT_FLOAT", _scaled_floats(content))
        raise ClientUsageError(_wrong_array(dtype, tuple(arrays[0].shape), rank))

    def split(self) -> Iterator[Batch]:
        """Parts whose request stays below the 4 MB that a gRPC peer takes, in order."""
        step = MESSAGE_BYTES - MESSAGE_BYTES % (IMAGE_BYTES * _ITEM_BYTES[self.dtype])
        if len(self.content) <= step:
            yield self
            return
        for start in range(0, len(self.content), step):
            yield Batch(self.dtype, self.content[start : start + step])

    def images(self) -> Iterator[bytes]:
        """One image after the other as 784 bytes: uint8 pixels, whatever the dtype that is sent."""
        content = self.content
        if self.dtype == "DT_FLOAT":
            content = bytes(round(255 * value) for value in memoryview(content).cast("f"))
        return map(itemgetter(0), struct.iter_unpack(f"{IMAGE_BYTES}s", content))


Images: TypeAlias = "ArrayLike | Sequence[ArrayLike] | Batch"


def calls(batch: Batch, metadata: Metadata, signature_name: str | None) -> Iterator[Call]:
    """Calls that give this model the same images: of `signature_name`; by default also one with PNG bytes.

    Raises ClientUsageError for a signature that the model does not have or that does not take images, with what it
    takes and what would work.
    """
    name = signature_name or DEFAULT_SIGNATURE_NAME
    if name not in metadata.signatures:
        known = ", ".join(metadata.signatures) or "none"
        raise ClientUsageError(f"{metadata.model_name} has no signature {name!r}: it has {known} (--signature)")
    yield _call(batch, name, metadata.signatures[name])
    encoded = metadata.signatures.get(_ENCODED)
    if signature_name is None and encoded and batch.dtype == "DT_UINT8" and _takes(encoded) == "DT_STRING":
        yield _call(batch, _ENCODED, encoded)


def predictions(outputs: dict[str, Output], count: int) -> Iterator[Prediction]:
    """The predictions in the outputs of any signature that gives ten probabilities an image; each is made when taken.

    Raises ServerError, at once, for outputs without them.
    """
    probabilities = outputs.get("probabilities") or outputs.get("scores")
    if probabilities is None and len(outputs) == 1:
        [probabilities] = outputs.values()
    numbers = _numbers(probabilities)
    classes = len(CLASS_NAMES)
    if probabilities is None or probabilities.shape != (count, classes) or len(numbers) != count * classes:
        shapes = {name: list(output.shape) for name, output in outputs.items()}
        raise ServerError("INTERNAL", f"expected the probabilities [{count}, {classes}], the server answered {shapes}")
    ids = list(map(int, _numbers(outputs.get("class_ids")))) or [row.index(max(row)) for row in _rows(numbers)]
    fits = len(ids) == count and set(ids) <= set(range(classes))
    names = _names(outputs.get("class_names")) or ([CLASS_NAMES[class_id] for class_id in ids] if fits else [])
    if not fits or len(names) != count:
        raise ServerError("INTERNAL", "the server's class_ids and class_names do not fit its probabilities")
    likeliest = [numbers[row * classes + class_id] for row, class_id in enumerate(ids)]
    # The loop runs in C: in bulk, it is most of the client's time.
    return map(Prediction._make, zip(ids, names, likeliest, _rows(numbers), strict=True))


def _rows(numbers: Sequence[float]) -> Iterator[tuple[float, ...]]:
    return zip(*[iter(numbers)] * len(CLASS_NAMES), strict=True)


def _names(output: Output | None) -> list[str]:
    if output is None:
        return []
    return [value.decode() for value in output.values if isinstance(value, bytes)]


def _numbers(output: Output | None) -> list[float]:
    """The values when all of them are numbers, else none."""
    if output is None:
        return []
    numbers = cast("list[float]", output.values)
    try:
        # The quickest look at every type: only numbers have a sum.
        sum(numbers)
    except (TypeError, OverflowError):
        return []
    return numbers


def _wrong_array(dtype: str, shape: tuple[int, ...], dimensions: int) -> str:
    expected = "[N, 28, 28] with N above 0" if dimensions == len(IMAGE_SHAPE) + 1 else "[28, 28] each"
    fix = ""
    if len(shape) != dimensions and prod(shape[1:]) == IMAGE_BYTES:
        fix = ": images.reshape(-1, 28, 28) would fit"
    elif dtype not in ("uint8", "float32"):
        fix = ": images.astype('uint8') keeps whole numbers from 0 to 255"
    return f"images must be uint8 (0 to 255) or float32 (0 to 1) {expected}, got {dtype} {list(shape)}{fix}"


def _scaled_floats(content: bytes) -> bytes:
    values = array.array("f")
    values.frombytes(content)
    low, high = min(values), max(values)
    if not 0 <= low <= high <= 1:
        raise ClientUsageError(
            f"float images must be scaled to 0..1, got {low:g} to {high:g}: send uint8 pixels, or divide by 255"
        )
    return content


def _takes(signature: Signature) -> str | None:
    inputs = list(signature.inputs.values())
    return inputs[0].dtype if len(inputs) == 1 else None


def _call(batch: Batch, name: str, signature: Signature) -> Call:
    if len(signature.inputs) != 1:
        raise ClientUsageError(
            f"the signature {name!r} takes {len(signature.inputs)} inputs: images go to a signature with one"
        )
    [(input_name, info)] = signature.inputs.items()
    if info.dtype == "DT_STRING":
        return Call(name, {input_name: _strings(batch, signature)})
    shape = _shape(batch, name, info)
    if info.dtype == batch.dtype:
        content = batch.content
    elif (info.dtype, batch.dtype) == ("DT_FLOAT", "DT_UINT8"):
        content = _as_floats(batch.content)
    else:
        sent = f"{batch.dtype} {[batch.count, *IMAGE_SHAPE]}"
        raise ClientUsageError(
            f"the signature {name!r} takes {info.dtype} {_text(info)}, not {sent}: "
            + (
                "--signature float_images takes floats"
                if batch.dtype == "DT_FLOAT"
                else "name another with --signature"
            )
        )
    return Call(name, {input_name: Tensor(info.dtype, shape, content)})


def _shape(batch: Batch, name: str, info: TensorInfo) -> tuple[int, ...]:
    """The batch in the signature's own form: [N, 28, 28], [N, 28, 28, 1] and [N, 784] hold the same pixels."""
    rest = IMAGE_SHAPE if info.shape is None else info.shape[1:]
    rest = IMAGE_SHAPE if any(size < 0 for size in rest) and len(rest) == len(IMAGE_SHAPE) else rest
    if (not info.shape and info.shape is not None) or prod(rest) != IMAGE_BYTES:
        raise ClientUsageError(
            f"the signature {name!r} takes {_text(info)}, which no images of 28x28 fit: --signature names another"
        )
    fixed = info.shape[0] if info.shape else -1
    if fixed not in (-1, batch.count):
        raise ClientUsageError(
            f"the signature {name!r} takes {fixed} images at a time, not {batch.count}: --batch-size {fixed}"
        )
    return (batch.count, *rest)


def _text(info: TensorInfo) -> str:
    return (
        "any shape" if info.shape is None else str(["N" if size < 0 else size for size in info.shape]).replace("'", "")
    )


def _as_floats(content: bytes) -> bytes:
    values = array.array("f", [pixel / 255 for pixel in range(256)])
    if sys.byteorder == "big":
        values.byteswap()
    table = [values[pixel : pixel + 1].tobytes() for pixel in range(256)]
    return b"".join([table[pixel] for pixel in content])


def _strings(batch: Batch, signature: Signature) -> Tensor:
    if batch.dtype != "DT_UINT8":
        raise ClientUsageError("floats cannot be sent as picture files: --signature float_images takes them")
    files = [_png(image) for image in batch.images()]
    if signature.method_name == _CLASSIFY:
        from serving.apis import messages

        files = [
            messages.Example(
                features={"feature": {"image/encoded": {"bytes_list": {"value": [file]}}}}  # type: ignore[arg-type]
            ).SerializeToString()
            for file in files
        ]
    return Tensor("DT_STRING", (len(files),), files)


def _png(pixels: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("L", IMAGE_SHAPE, pixels).save(buffer, "PNG")
    return buffer.getvalue()
