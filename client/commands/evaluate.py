"""`fashion evaluate`: accuracy, precision and recall of each class, and the confusion matrix of a live server."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from client.commands.options import (
    as_json_option,
    batch_size_option,
    concurrency_option,
    signature_option,
    with_connection,
)
from client.errors import ClientUsageError
from fashion_common import data_files
from fashion_common.served_model import CLASS_NAMES

if TYPE_CHECKING:
    from client.connection import Connection
    from client.pictures.sources import Block

_IDX_LABELS = b"\0\0\x08\x01"


@click.command(epilog="Example: fashion evaluate --data-dir data/fashion-mnist --server http://127.0.0.1:8501")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the original t10k files lie.  [default: $FASHION_MNIST_DIR, data/fashion-mnist, or as prepared]",
)
@signature_option
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@batch_size_option()
@concurrency_option
@as_json_option
@with_connection
def evaluate(
    connection: Connection,
    data_dir: Path | None,
    signature_name: str | None,
    limit: int | None,
    batch_size: int,
    concurrency: int,
    as_json: bool,
) -> None:
    """Ask a live server for the whole test set: accuracy, precision and recall by class, confusion matrix."""
    from client.pipeline import answers

    images, labels = test_set(data_dir, batch_size)
    results = answers(connection, images, signature_name=signature_name, batch_size=batch_size, concurrency=concurrency)
    confusion = [[0] * len(CLASS_NAMES) for _ in CLASS_NAMES]
    with closing(results):
        for label, answer in zip(labels, islice(results, limit), strict=limit is None):
            if answer.error or not answer.prediction:
                raise answer.error or AssertionError(answer.name)
            confusion[label][answer.prediction.class_id] += 1
    report = evaluation(confusion)
    click.echo(json.dumps(report, indent=2) if as_json else _text(report))


def evaluation(confusion: list[list[int]]) -> dict[str, Any]:
    """The number of images, the accuracy, and the precision and recall of each class, in label order.

    confusion: `confusion[label][class_id]` counts the images of a label that were answered with a class.
    """
    images = sum(map(sum, confusion))
    classes = [
        {
            "class_name": name,
            "precision": _share(confusion[label][label], sum(row[label] for row in confusion)),
            "recall": _share(confusion[label][label], sum(confusion[label])),
            "images": sum(confusion[label]),
        }
        for label, name in enumerate(CLASS_NAMES)
    ]
    accuracy = _share(sum(row[label] for label, row in enumerate(confusion)), images)
    return {"images": images, "accuracy": accuracy, "classes": classes, "confusion": confusion}


def _text(report: dict[str, Any]) -> str:
    lines = [f"accuracy {report['accuracy']:.4f} on {report['images']} images", ""]
    lines.append(f"{'class':<12} {'precision':>9} {'recall':>7}   answered as 0 to 9")
    for label, (row, counts) in enumerate(zip(report["classes"], report["confusion"], strict=True)):
        cells = " ".join(f"{count:>5}" for count in counts)
        lines.append(f"{label} {row['class_name']:<11} {row['precision']:>8.4f} {row['recall']:>7.4f}   {cells}")
    return "\n".join(lines)


def test_set(data_dir: Path | None, block_size: int) -> tuple[Iterator[Block], list[int]]:
    """The 10,000 test images as blocks, and their labels: of the original IDX files, else of what training has decoded.

    data_dir: the directory of the original files; else $FASHION_MNIST_DIR, else `data/fashion-mnist`, as in training.
    Raises ClientUsageError when they are nowhere, or not what they should be.
    """
    from client.pictures.sources import blocks

    named = data_files.named_directory(data_dir)
    directory = named or data_files.default_directory()
    images, labels = (directory / name for name in data_files.FILES[2:])
    if images.is_file() and labels.is_file():
        return blocks([str(images)], "none", block_size), _labels(labels)
    decoded = data_files.decoded_file(data_files.prepared_directory())
    if not named and decoded.is_file():
        return _decoded(decoded, block_size)
    places = f"{directory}" if named else f"{directory}, nor {decoded}, which `fashion train` makes"
    raise ClientUsageError(
        f"no test set ({images.name}, {labels.name}) in {places}: name its directory with --data-dir"
    )


def _decoded(path: Path, block_size: int) -> tuple[Iterator[Block], list[int]]:
    import zipfile

    import numpy as np

    from client.pictures.sources import array_blocks

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["test_images"], arrays["test_labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ClientUsageError(f"{path}: cannot be read: {error}: `fashion train` makes it anew") from error
    return array_blocks(images, str(path), block_size), labels.tolist()


def _labels(path: Path) -> list[int]:
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ClientUsageError(f"{path}: cannot be read: {error}") from error
    labels = data[8:]
    if data[:8] != _IDX_LABELS + struct.pack(">I", len(labels)) or max(labels, default=0) >= len(CLASS_NAMES):
        raise ClientUsageError(f"{path}: not an IDX file of the labels 0 to 9")
    return list(labels)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
