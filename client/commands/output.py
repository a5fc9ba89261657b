"""The formats of predictions: table, JSON, JSON lines, CSV and names, each written as the answers come."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from client.errors import ClientUsageError
from client.types import Prediction
from fashion_common.files import whole_file

if TYPE_CHECKING:
    from client.pipeline import Answer

_T = TypeVar("_T")
# The progress bar moves this many items at a time; a few need none.
_STEP = 50
# A table's columns are as wide as its first rows need; a stream cannot wait for its longest name.
_MEASURED_ROWS = 256


@contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file that has the name `path` only once it is whole. Raises ClientUsageError when it cannot be written."""
    try:
        with whole_file(path) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ClientUsageError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def text_output(path: Path | None) -> Iterator[Callable[[str], object]]:
    """A function that writes a piece of text: to stdout, or to a file that appears only when it is whole."""
    if path is None:
        # Bytes: click would take the escape codes out of names, and a name need not be valid UTF-8.
        yield lambda text: click.echo(_encoded(text), nl=False)
        return
    with output_file(path) as file:
        yield lambda text: file.write(_encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@contextmanager
def progress(items: Iterator[_T], label: str) -> Iterator[Iterable[_T]]:
    """The items, with a progress bar on stderr while stdout is no terminal."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield items
        return
    with click.progressbar(items, label=label, file=sys.stderr, show_pos=True, update_min_steps=_STEP) as bar:
        yield bar


def lines(answers: Iterable[Answer], form: str, top_k: int) -> Iterator[str]:
    """The text of all answers, in pieces, in one of the FORMATS."""
    return FORMATS[form](((answer.name, answer.prediction) for answer in answers if answer.prediction), top_k)


# Each with the name of its image.
_Predictions = Iterator[tuple[str, Prediction]]


def _table(predictions: _Predictions, top_k: int) -> Iterator[str]:
    first = list(islice(predictions, _MEASURED_ROWS))
    width = max((len(printable(name)) for name, _ in first), default=0)
    class_width = max((len(name) for _, prediction in first for name, _ in _top(prediction, top_k)), default=0)
    for name, prediction in chain(first, predictions):
        cells = [f"{class_name:<{class_width}}  {value:.4f}" for class_name, value in _top(prediction, top_k)]
        yield f"{printable(name):<{width}}  {'  '.join(cells)}\n"


def printable(name: str) -> str:
    """The name for people: control characters, which a terminal would obey, are written as escapes."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)


def _json(predictions: _Predictions, top_k: int) -> Iterator[str]:
    before = "[\n  "
    for name, prediction in predictions:
        yield before + json.dumps(_record(name, prediction, top_k))
        before = ",\n  "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def _jsonl(predictions: _Predictions, top_k: int) -> Iterator[str]:
    for name, prediction in predictions:
        yield json.dumps(_record(name, prediction, top_k)) + "\n"


def _csv(predictions: _Predictions, top_k: int) -> Iterator[str]:
    header = ["file"]
    for rank in range(1, top_k + 1):
        suffix = "" if rank == 1 else f"_{rank}"
        header += [f"class_name{suffix}", f"probability{suffix}"]
    # A writer returns what its file's `write` does: here the line itself.
    line = csv.writer(SimpleNamespace(write=str), lineterminator="\n").writerow
    yield line(header)
    for name, prediction in predictions:
        cells = chain.from_iterable((class_name, f"{value:.6f}") for class_name, value in _top(prediction, top_k))
        yield line([name, *cells])


def _names(predictions: _Predictions, top_k: int) -> Iterator[str]:
    for _, prediction in predictions:
        yield "\t".join(class_name for class_name, _ in _top(prediction, top_k)) + "\n"


def _top(prediction: Prediction, top_k: int) -> list[tuple[str, float]]:
    """The answer by the server's own name, then the next likeliest by the client's."""
    return [(prediction.class_name, prediction.probability), *prediction.top(top_k)[1:]]


def _record(name: str, prediction: Prediction, top_k: int) -> dict[str, object]:
    record: dict[str, object] = {"file": name, **prediction._asdict()}
    if top_k > 1:
        record["top"] = [
            {"class_name": class_name, "probability": value} for class_name, value in _top(prediction, top_k)
        ]
    return record


FORMATS: dict[str, Callable[[_Predictions, int], Iterator[str]]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "names": _names,
}
