"""Images as a batch: how many they are, in parts, and one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from client.errors import ClientUsageError
from client.pictures.batch import Batch, check_array

_PIXELS = np.arange(256 * 784, dtype=np.uint32).reshape(256, 28, 28).astype(np.uint8)
# Each level in each place.
_PIXELS += np.arange(256, dtype=np.uint8)[:, None, None]


_WHOLE = "images.astype('uint8') keeps whole numbers from 0 to 255"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_batch_is_its_images(dtype: type[np.generic]) -> None:
    """Counted, cut into parts of which the last is smaller, and shown as pixels, whatever is sent."""
    images = _PIXELS if dtype is np.uint8 else (_PIXELS / 255).astype(np.float32)
    batch = Batch.of(images)
    assert (batch.dtype, batch.content) == ("DT_UINT8" if dtype is np.uint8 else "DT_FLOAT", images.tobytes())
    assert batch.count == 256
    parts = list(batch.split(100))
    assert [(part.dtype, part.count) for part in parts] == [(batch.dtype, count) for count in (100, 100, 56)]
    assert b"".join(part.content for part in parts) == batch.content
    assert list(batch.images()) == [image.tobytes() for image in _PIXELS]


def test_what_is_small_enough_is_not_copied() -> None:
    """A batch is itself, whole where a part may be as large."""
    batch = Batch.of(_PIXELS)
    assert Batch.of(batch) is batch
    [whole] = batch.split(256)
    assert whole is batch
    assert [part.count for part in batch.split(255)] == [255, 1]


@pytest.mark.parametrize(
    ("images", "rank", "dtype", "text"),
    [
        (_PIXELS[:1], 3, "float32", "[N, 28, 28] with N above 0, got uint8 [1, 28, 28]"),
        (_PIXELS[0], 3, "", "[N, 28, 28] with N above 0, got uint8 [28, 28]"),
        (_PIXELS[:1], 2, "", "[28, 28] each, got uint8 [1, 28, 28]: images.reshape(-1, 28, 28) would fit"),
        (_PIXELS[:, :27], 3, "", "with N above 0, got uint8 [256, 27, 28]"),
        (_PIXELS[:, :, :27], 3, "", "with N above 0, got uint8 [256, 28, 27]"),
        (_PIXELS[:0], 3, "", "with N above 0, got uint8 [0, 28, 28]"),
        (_PIXELS.reshape(-1, 784), 3, "", "got uint8 [256, 784]: images.reshape(-1, 28, 28) would fit"),
        (_PIXELS.reshape(-1, 784).astype("i8"), 3, "", "[256, 784]: images.reshape(-1, 28, 28) would fit"),
        (_PIXELS[..., None], 3, "", "got uint8 [256, 28, 28, 1]: images.reshape(-1, 28, 28) would fit"),
        (_PIXELS.reshape(-1, 392), 3, "", "got uint8 [512, 392]"),
        (_PIXELS.astype("f8"), 3, "", f"got float64 [256, 28, 28]: {_WHOLE}"),
        (_PIXELS[0].astype("i2"), 2, "", f"[28, 28] each, got int16 [28, 28]: {_WHOLE}"),
    ],
)  # fmt: skip
def test_what_are_no_images_is_refused_with_the_fix(images: np.ndarray, rank: int, dtype: str, text: str) -> None:
    """What was expected, what was given, and the code that would make one of the other."""
    with pytest.raises(ClientUsageError) as raised:
        check_array(images, rank, dtype)
    assert str(raised.value).startswith("images must be uint8 (0 to 255) or float32 (0 to 1) ")
    assert str(raised.value).endswith(text)
