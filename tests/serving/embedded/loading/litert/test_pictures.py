"""Pillow's decoder on LiteRT gives the pixels of the graph's in TensorFlow, and refuses what it refuses."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from fashion_common.served_model import MAX_PIXELS
from serving.embedded.admission.resources import resident_bytes
from serving.embedded.loading.litert.pictures import read_pictures
from serving.errors import InvalidArgument
from tests.support.exports import encoded
from tests.training.export.test_decoding import BAD_FILES, FILES
from training.export.decoding import decode


def of_graph(files: list[bytes]) -> npt.NDArray[np.uint8]:
    """What the graph makes of them."""
    pixels: npt.NDArray[np.uint8] = decode(tf.constant(files, tf.string)).numpy()
    return pixels


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_every_kind_of_file(file: bytes) -> None:
    """As the graph has it; where both resize, a float's last bit may round one pixel of a thousand to its neighbour."""
    difference = np.abs(read_pictures([file]).astype(int) - of_graph([file]))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_right_size(form: str, channels: int) -> None:
    """Pixel by pixel."""
    shape = (28, 28, 3) if channels == 3 else (28, 28)
    generator = np.random.default_rng(channels)
    files = [encoded(generator.integers(0, 256, shape, dtype=np.uint8), form) for _ in range(5)]
    np.testing.assert_array_equal(read_pictures(files), of_graph(files))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [28, 31])
def test_16_bit_pngs_are_cut_to_8(channels: int, size: int) -> None:
    """The upper byte of every channel counts."""
    deep = np.random.default_rng(5).integers(0, 2**16, (size, size, channels), dtype=np.uint16)
    file = tf.io.encode_png(tf.constant(deep)).numpy()
    assert np.abs(read_pictures([file]).astype(int) - of_graph([file])).max() <= (size != 28)


def test_any_size_fits_with_its_proportions() -> None:
    """The graph's margins, and its pixels but for rounding."""
    generator = np.random.default_rng(7)
    sizes = [
        (1, 1),
        (300, 300),
        (140, 280),
        (600, 400),
        (1, 5000),
        (5000, 1),
        (1500, 2500),
        *generator.integers(1, 300, (20, 2)),
    ]
    files = [encoded(generator.integers(0, 256, size, dtype=np.uint8), "PNG") for size in sizes]
    difference = np.abs(read_pictures(files).astype(int) - of_graph(files))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 28 * 28 * len(sizes) // 1000


@pytest.mark.parametrize("file", BAD_FILES.values(), ids=BAD_FILES)
def test_one_bad_file_fails_the_call_and_is_named(file: bytes) -> None:
    """In the graph's words."""
    good = FILES["PNG gray"]
    text = r"^image 2 of 5, counted from 0, is not a whole PNG, JPEG, GIF or BMP image of at most 67108864 pixels$"
    with pytest.raises(InvalidArgument, match=text):
        read_pictures([good, good, file, good, file])


def test_what_pillow_reads_and_tensorflow_does_not() -> None:
    """BMP of 1 bit, and other formats."""
    for file in (encoded(Image.new("1", (28, 28)), "BMP"), encoded(Image.new("L", (28, 28)), "TIFF")):
        with pytest.raises(InvalidArgument):
            read_pictures([file])
        with pytest.raises(tf.errors.InvalidArgumentError):
            of_graph([file])


def test_a_file_that_claims_many_pixels() -> None:
    """No memory is taken for it."""
    before = resident_bytes()
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + FILES["GIF gray"][13:]
    bmp = FILES["BMP gray"][:18] + struct.pack("<ii", 2**15, 2**15) + FILES["BMP gray"][26:]
    for file in (BAD_FILES["PNG that unfolds to gigabytes"], gif, bmp):
        with pytest.raises(InvalidArgument, match=f"at most {MAX_PIXELS} pixels$"):
            read_pictures([file])
    assert resident_bytes() < before + 2**24


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_large_pictures_at_a_time(tmp_path: Path) -> None:
    """One is decoded at a time, with the server's allocator: eight callers take little more memory than one."""
    file = tmp_path / "large.png"
    file.write_bytes(encoded(Image.new("RGBA", (4096, 4096), "white"), "PNG"))
    growths = [
        int(subprocess.run([sys.executable, "-c", READ, str(file), callers], capture_output=True, check=True).stdout)
        for callers in ("1", "8")
    ]
    assert growths[0] < 150 * 2**20
    assert growths[1] < growths[0] + 50 * 2**20


# Reads a picture by so many callers at once; prints by how many bytes the process had grown at its largest.
READ = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from serving.embedded.admission.resources import bound_allocator, resident_bytes
bound_allocator()
from serving.embedded.loading.litert.pictures import read_pictures
file, callers = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
begin = resident_bytes()
with ThreadPoolExecutor(callers) as pool:
    for images in pool.map(read_pictures, [[file]] * callers):
        assert (images == 255).all()
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 - begin)
"""
