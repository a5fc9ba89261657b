"""Inputs whose answers are known: the class of an image is its first pixel."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.scored_models import scored_model  # noqa: F401

Images = npt.NDArray[np.uint8]


def images(count: int) -> Images:
    """uint8 [count, 28, 28] of the classes 0, 1, 2, ..., 9, 0, ..., whose other pixels are noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    pixels[:, 0, 0] = np.arange(count) % 10
    return pixels


def png(pixels: Images) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, count: int, *, row_group: int = 1000, **columns: Any) -> Path:
    """Rows of raw pixels with an `id` and a `label`, and these columns."""
    pixels = images(count).reshape(count, -1)
    table = pa.table(
        {
            "id": np.arange(count),
            "image": pa.array([row.tobytes() for row in pixels], pa.binary(784)),
            "label": np.arange(count) % 10,
            **columns,
        }
    )
    pq.write_table(table, path, row_group_size=row_group)
    return path


def _npy(path: Path, pixels: Images) -> list[Path]:
    np.save(path / "images.npy", pixels)
    return [path / "images.npy"]


def _idx(path: Path, pixels: Images) -> list[Path]:
    content = struct.pack(">4I", 0x803, len(pixels), 28, 28) + pixels.tobytes()
    (path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    return [path / "t10k-images-idx3-ubyte.gz"]


def _pictures(path: Path, pixels: Images) -> list[Path]:
    folder = path / "pictures"
    for number, image in enumerate(pixels):
        file = folder / f"{number // 10:02d}" / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    return [folder]


def _csv(path: Path, pixels: Images) -> list[Path]:
    [folder] = _pictures(path, pixels)
    files = sorted(folder.rglob("*.png"))
    lines = [f"{number},{file.relative_to(path)}\n" for number, file in enumerate(files)]
    (path / "list.csv").write_text("".join(["id,path\n", *lines]))
    return [path / "list.csv"]


def _jsonl(path: Path, pixels: Images) -> list[Path]:
    [folder] = _pictures(path, pixels)
    files = sorted(folder.rglob("*.png"))
    (path / "list.jsonl").write_text("".join(f'{{"path": "{file}"}}\n' for file in files))
    return [path / "list.jsonl"]


def _column(make: Callable[[Images], pa.Array]) -> Callable[[Path, Images], list[Path]]:
    def write(path: Path, pixels: Images) -> list[Path]:
        table = pa.table({"id": np.arange(len(pixels)), "image": make(pixels)})
        pq.write_table(table, path / "rows.parquet", row_group_size=7)
        return [path / "rows.parquet"]

    return write


def _rows(pixels: Images) -> list[bytes]:
    return [image.tobytes() for image in pixels]


# Writes images in one way; gives the inputs to score.
INPUTS: dict[str, Callable[[Path, Images], list[Path]]] = {
    "npy": _npy,
    "idx": _idx,
    "pictures": _pictures,
    "csv": _csv,
    "jsonl": _jsonl,
    "binary(784)": _column(lambda pixels: pa.array(_rows(pixels), pa.binary(784))),
    "binary": _column(lambda pixels: pa.array(_rows(pixels), pa.binary())),
    "large_binary": _column(lambda pixels: pa.array(_rows(pixels), pa.large_binary())),
    "list": _column(lambda pixels: pa.array([row.ravel() for row in pixels], pa.list_(pa.uint8()))),
    "list[784]": _column(lambda pixels: pa.array([row.ravel() for row in pixels], pa.list_(pa.uint8(), 784))),
    "png": _column(lambda pixels: pa.array([png(image) for image in pixels], pa.binary())),
    "struct": _column(lambda pixels: pa.array([{"bytes": png(image), "path": "x.png"} for image in pixels])),
}


@pytest.fixture(params=INPUTS)
def each_input(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """23 images, in one of the ways."""
    return [str(path) for path in INPUTS[request.param](tmp_path, images(23))]
