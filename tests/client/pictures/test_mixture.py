"""What a user has as one batch: the same pixels as `fashion predict` sends, whatever holds them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import client.aio
from client import ClientUsageError, ImageError, ImageWarning, connect
from client.limits import PICTURE_PIXELS
from client.pictures.batch import Batch, are_arrays
from client.pictures.images import read_image
from tests.support.client_commands import APIS
from tests.support.road import Road

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 28, 28), np.uint8)
FLOATS = (PIXELS / np.float32(255)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two ready pictures, an array of both, and an array of floats."""
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    np.save(tmp_path / "both.npy", PIXELS)
    np.save(tmp_path / "floats.npy", FLOATS)
    return [tmp_path / name for name in ("0.png", "1.png", "both.npy", "floats.npy")]


MAKERS: list[Callable[[Path], Any]] = [
    str,
    Path,
    Path.read_bytes,
    lambda path: bytearray(path.read_bytes()),
    Image.open,
    lambda path: np.asarray(Image.open(path)),
]


@pytest.mark.filterwarnings("ignore::client.ImageWarning")
@pytest.mark.parametrize("first", MAKERS)
@pytest.mark.parametrize("second", MAKERS)
def test_any_two_kinds_make_one_batch(
    files: list[Path], first: Callable[[Path], Any], second: Callable[[Path], Any]
) -> None:
    """In order."""
    assert Batch.of([first(files[0]), second(files[1])]) == Batch("DT_UINT8", PIXELS.tobytes())


@pytest.mark.filterwarnings("ignore::client.ImageWarning")
@pytest.mark.parametrize("maker", MAKERS[:-1])
def test_one_picture_is_a_batch(files: list[Path], maker: Callable[[Path], Any]) -> None:
    """It need not be in a list."""
    assert Batch.of(maker(files[0])) == Batch("DT_UINT8", PIXELS[:1].tobytes())


@pytest.mark.filterwarnings("ignore::client.ImageWarning")
def test_a_path_may_hold_several_images(files: list[Path]) -> None:
    """A directory, a glob or an array, as on the command line; an array [N, 28, 28] is several too."""
    assert Batch.of([files[0], files[2], PIXELS]).content == b"".join([PIXELS[0].tobytes(), *[PIXELS.tobytes()] * 2])
    assert Batch.of(str(files[0].parent / "?.png")).count == 2
    assert Batch.of(files[3]) == Batch("DT_FLOAT", FLOATS.tobytes())


def test_pictures_are_prepared_as_by_fashion_predict(tmp_path: Path) -> None:
    """A photograph goes through the data set's recipe unless it is told otherwise; a doubt is a warning."""
    photograph = Image.new("RGB", (60, 80), "white")
    photograph.paste((30, 60, 200), (15, 10, 45, 70))
    photograph.save(tmp_path / "photo.png")
    for preprocess in ("auto", "photo"):
        expected = read_image(tmp_path / "photo.png", "x", preprocess)
        assert Batch.of([photograph], preprocess).content == expected
    with pytest.warns(ImageWarning, match="lighter than the training set"):
        Batch.of([photograph], "none")
    with pytest.warns(ImageWarning, match=r"^images\[1\]: hardly any contrast"):
        Batch.of([photograph, Image.new("L", (28, 28))])


def test_an_image_of_pillows_is_turned_and_left_as_it_was(tmp_path: Path) -> None:
    """The camera's orientation counts, as it does for its file; a JPEG is not reduced."""
    exif = Image.Exif()
    exif[274] = 6
    side = Image.fromarray(PIXELS[0]).resize((56, 28))
    side.save(tmp_path / "side.jpg", exif=exif)
    opened = Image.open(tmp_path / "side.jpg")
    with pytest.warns(ImageWarning):
        assert Batch.of(opened) == Batch.of(tmp_path / "side.jpg")
    assert opened.size == (56, 28)


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (["nowhere.png"], ImageError, "nowhere.png: no such file"),
        (["https://host/a.png"], ClientUsageError, "URLs are not fetched"),
        ([b"no picture"], ImageError, r"images\[0\]: not a picture"),
        (b"", ImageError, r"images\[0\]: not a picture"),
        (
            [PIXELS[0], 5],
            ClientUsageError,
            r"images\[1\] must be an array, a path, the bytes of a picture file or Pillow's",
        ),
        (None, ClientUsageError, r"images\[0\] must be an array, .* not NoneType"),
        ([Image.new("L", (28, 28), 9), PIXELS[0][:27]], ClientUsageError, r"got uint8 \[27, 28\]"),
        ([Image.new("1", (1, PICTURE_PIXELS + 1))], ImageError, r"images\[0\]: 1x.* too large"),
    ],
)
@pytest.mark.filterwarnings("ignore::client.ImageWarning")
def test_what_is_no_image_is_refused(images: Any, error: type[Exception], text: str) -> None:
    """With its name or its place."""
    with pytest.raises(error, match=text):
        Batch.of(images)


@pytest.mark.filterwarnings("ignore::client.ImageWarning")
def test_floats_stay_by_themselves(files: list[Path]) -> None:
    """A request has one dtype."""
    for images in ([files[0], FLOATS[0]], [files[3], files[0]]):
        with pytest.raises(ClientUsageError, match="floats cannot be sent beside pictures"):
            Batch.of(images)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (PIXELS, True), (list(PIXELS), True), (tuple(PIXELS), True), (Batch("DT_UINT8", b""), True),
        ("path", False), (["path"], False), (b"bytes", False), ([PIXELS[0], "path"], False), ([], False),
    ],
)  # fmt: skip
def test_who_only_has_arrays_needs_no_decoding(images: Any, expected: bool) -> None:
    """An event loop need not leave them to a thread."""
    assert are_arrays(images) == expected


@APIS
@pytest.mark.filterwarnings("ignore::client.ImageWarning")
def test_both_connections_predict_a_mixture(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """Paths, bytes, Pillow's images and arrays give the predictions of the pixels."""
    paths = list(pictures)[:4]
    images: list[Any] = [
        str(paths[0]),
        paths[1].read_bytes(),
        Image.open(io.BytesIO(paths[2].read_bytes())),
        pictures[paths[3]],
    ]

    async def asynchronous() -> list[client.Prediction]:
        async with client.aio.connect(road.servers[api]) as connection:
            return await connection.predict(images, preprocess="none")

    with connect(road.servers[api]) as connection:
        expected = connection.predict([pictures[path] for path in paths])
        assert connection.predict(images, preprocess="none") == asyncio.run(asynchronous()) == expected
