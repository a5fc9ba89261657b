"""How right a live server is on the test set: accuracy, precision and recall of each class, the confusion matrix."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.errors import ClientUsageError
from client.pictures.sources import Block, blocks
from fashion_common.served_model import CLASS_NAMES

_IMAGES, _LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
_IDX_LABELS = b"\0\0\x08\x01"


@dataclass(frozen=True)
class Evaluation:
    """`confusion[label][class_id]` counts the images of a label that were answered with a class."""

    confusion: list[list[int]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Evaluation:
        """From (label, class_id) of every image."""
        confusion = [[0] * len(CLASS_NAMES) for _ in CLASS_NAMES]
        for label, class_id in pairs:
            confusion[label][class_id] += 1
        return cls(confusion)

    @property
    def images(self) -> int:
        """How many images were answered."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return _share(sum(row[label] for label, row in enumerate(self.confusion)), self.images)

    def per_class(self) -> list[dict[str, float | int | str]]:
        """Class name, precision, recall and number of images, in label order."""
        return [
            {
                "class_name": name,
                "precision": _share(self.confusion[label][label], sum(row[label] for row in self.confusion)),
                "recall": _share(self.confusion[label][label], sum(self.confusion[label])),
                "images": sum(self.confusion[label]),
            }
            for label, name in enumerate(CLASS_NAMES)
        ]


def test_set(data_dir: Path | None, block_size: int) -> tuple[Iterator[Block], list[int]]:
    """The 10,000 test images as blocks, and their labels; from the original IDX files.

    data_dir: where they lie; else $FASHION_MNIST_DIR, data/fashion-mnist or ../shared/fashion-mnist, as in training.
    Raises ClientUsageError when they are nowhere, or not what they should be.
    """
    candidates = [data_dir] if data_dir else _usual_places()
    for folder in candidates:
        if (folder / _IMAGES).is_file() and (folder / _LABELS).is_file():
            return blocks([str(folder / _IMAGES)], "none", block_size), _labels(folder / _LABELS)
    places = ", ".join(map(str, candidates))
    raise ClientUsageError(f"no test set ({_IMAGES} and {_LABELS}) in {places}: name its directory with --data-dir")


def _usual_places() -> Sequence[Path]:
    named = os.environ.get("FASHION_MNIST_DIR")
    return [*([Path(named)] if named else []), Path("data/fashion-mnist"), Path("../shared/fashion-mnist")]


def _labels(path: Path) -> list[int]:
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ClientUsageError(f"{path}: cannot be read: {error}") from error
    if (
        data[:4] != _IDX_LABELS
        or struct.unpack(">I", data[4:8])[0] != len(data) - 8
        or max(data[8:]) >= len(CLASS_NAMES)
    ):
        raise ClientUsageError(f"{path}: not an IDX file of the labels 0 to 9")
    return list(data[8:])


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
