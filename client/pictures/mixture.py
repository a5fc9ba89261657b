"""What a user has as one batch: paths, picture files as bytes, Pillow's images, arrays, mixed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence

from PIL import Image

from client.errors import ClientUsageError
from client.pictures.batch import ArrayLike, Batch
from client.pictures.images import picture_pixels, read_image, upright
from client.pictures.sources import blocks
from client.types import Preprocess
from fashion_common.served_model import IMAGE_SHAPE


def mixed_batch(items: Sequence[object], preprocess: Preprocess) -> Batch:
    """The images of all items, in order; a path may hold several, as in `fashion predict`.

    Raises ImageError for what is no picture; ClientUsageError for items of another kind, arrays that are no images, and
    floats beside pixels.
    """
    batches = [batch for index, item in enumerate(items) for batch in _batches(item, f"images[{index}]", preprocess)]
    dtypes = {batch.dtype for batch in batches}
    if len(dtypes) != 1:
        raise ClientUsageError("floats cannot be sent beside pictures, which are uint8: send them by themselves")
    return Batch(dtypes.pop(), b"".join(batch.content for batch in batches))


def _batches(item: object, name: str, preprocess: Preprocess) -> Iterator[Batch]:
    if isinstance(item, str | os.PathLike):
        for block in blocks([os.fspath(item)], preprocess):
            yield block.load()
    elif isinstance(item, bytes | bytearray):
        yield Batch("DT_UINT8", read_image(io.BytesIO(item), name, preprocess))
    elif isinstance(item, Image.Image):
        yield Batch("DT_UINT8", picture_pixels(upright(item, name), name, preprocess))
    elif isinstance(item, ArrayLike):
        yield Batch.of(item if len(item.shape) > len(IMAGE_SHAPE) else [item])
    else:
        raise ClientUsageError(
            f"{name} must be an array, a path, the bytes of a picture file or Pillow's image, not {type(item).__name__}"
        )
