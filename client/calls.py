"""The calls of a signature that carry a batch: its pixels, the same scaled to floats, or picture files."""

from __future__ import annotations

import array
import functools
import sys
from collections.abc import Iterator
from math import prod

from client.errors import ClientUsageError
from client.limits import MESSAGE_BYTES
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES, Call, Calls, Metadata, Signature, Tensor, TensorInfo
from fashion_common.served_model import IMAGE_SHAPE
from serving.apis.signatures import DEFAULT_SIGNATURE

_ENCODED = "encoded_images"
# What an image takes in a message, by the input's dtype: PNG bytes of noise, in a tf.Example, stay below 1,024.
_SENT_BYTES = {"DT_FLOAT": 4 * IMAGE_BYTES, "DT_STRING": 1024}
_CLASSIFY = "tensorflow/serving/classify"


def signature_of(metadata: Metadata, signature_name: str | None) -> tuple[str, Signature]:
    """The signature of this name, by default `serving_default`. Raises ClientUsageError where there is none."""
    name = signature_name or DEFAULT_SIGNATURE
    if name not in metadata.signatures:
        names = ", ".join(metadata.signatures) or "none"
        raise ClientUsageError(f"{metadata.model_name} has no signature {name!r}: it has {names} (--signature)")
    return name, metadata.signatures[name]


def calls(batch: Batch, metadata: Metadata, signature_name: str | None) -> Iterator[Call]:
    """Calls that give this model the same images: of `signature_name`; by default also one with PNG bytes.

    Raises ClientUsageError for a signature that the model does not have or that does not take images, with what it
    takes and what would work.
    """
    name, signature = signature_of(metadata, signature_name)
    yield _call(batch, name, signature)
    encoded = metadata.signatures.get(_ENCODED, Signature({}, {}, ""))
    takes_files = [info.dtype for info in encoded.inputs.values()] == ["DT_STRING"]
    if takes_files and signature_name is None and batch.dtype == "DT_UINT8":
        yield _call(batch, _ENCODED, encoded)


def parts(batch: Batch, metadata: Metadata, signature_name: str | None) -> Iterator[tuple[int, Calls]]:
    """The batch in parts whose request stays below the 4 MB that a gRPC peer takes: images of each, and its calls."""
    signature = metadata.signatures.get(signature_name or DEFAULT_SIGNATURE, Signature({}, {}, ""))
    sizes = [_SENT_BYTES.get(info.dtype, IMAGE_BYTES) for info in signature.inputs.values()]
    for part in batch.split(MESSAGE_BYTES // max(sizes, default=IMAGE_BYTES)):
        yield part.count, functools.partial(calls, part, metadata, signature_name)


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
        is_float = batch.dtype == "DT_FLOAT"
        fix = "--signature float_images takes floats" if is_float else "name another with --signature"
        raise ClientUsageError(
            f"the signature {name!r} takes {info.dtype} {info}, not {batch.dtype} {[batch.count, *IMAGE_SHAPE]}: {fix}"
        )
    return Call(name, {input_name: Tensor(info.dtype, shape, content)})


def _shape(batch: Batch, name: str, info: TensorInfo) -> tuple[int, ...]:
    """The batch in the signature's own form: [N, 28, 28], [N, 28, 28, 1] and [N, 784] hold the same pixels."""
    if info.shape is None:
        return (batch.count, *IMAGE_SHAPE)
    count, rest = info.shape[:1], info.shape[1:]
    if len(rest) == len(IMAGE_SHAPE) and min(rest) < 0:
        rest = IMAGE_SHAPE
    if prod(rest) != IMAGE_BYTES:
        raise ClientUsageError(
            f"the signature {name!r} takes {info}, which no images of 28x28 fit: --signature names another"
        )
    if count not in ((-1,), (batch.count,)):
        raise ClientUsageError(
            f"the signature {name!r} takes {count[0]} images at a time, not {batch.count}: --batch-size {count[0]}"
        )
    return (batch.count, *rest)


def _as_floats(pixels: bytes) -> bytes:
    """float32 from 0 to 1, little-endian."""
    shares = [pixel / 255 for pixel in range(256)]
    values = array.array("f", [shares[pixel] for pixel in pixels])
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _strings(batch: Batch, signature: Signature) -> Tensor:
    if batch.dtype != "DT_UINT8":
        raise ClientUsageError("floats cannot be sent as picture files: --signature float_images takes them")
    # Pillow is not needed for pixels.
    from client.pictures.images import png

    files = [png(image) for image in batch.images()]
    if signature.method_name == _CLASSIFY:
        from serving.apis import messages

        files = [
            messages.Example(
                features={"feature": {"image/encoded": {"bytes_list": {"value": [file]}}}}  # type: ignore[arg-type]
            ).SerializeToString()
            for file in files
        ]
    return Tensor("DT_STRING", (len(files),), files)
