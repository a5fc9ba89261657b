"""How predictions are printed: table, JSON, JSON lines, CSV or names, each written as the answers come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from client.pipeline import Answer
from client.types import Prediction

# Columns are as wide as the first answers need; a stream cannot wait for its longest name.
_MEASURED = 256


def lines(answers: Iterable[Answer], form: str, top_k: int) -> Iterator[str]:
    """The text of all answers, in pieces, in the form `table`, `json`, `jsonl`, `csv` or `names`."""
    return FORMATS[form](((answer.name, answer.prediction) for answer in answers if answer.prediction), top_k)


_Named = Iterator[tuple[str, Prediction]]


def _table(named: _Named, top_k: int) -> Iterator[str]:
    first = list(islice(named, _MEASURED))
    width = max((len(name) for name, _ in first), default=0)
    class_width = max((len(name) for _, one in first for name, _ in one.top(top_k)), default=0)
    for name, prediction in chain(first, named):
        cells = [f"{class_name:<{class_width}}  {value:.4f}" for class_name, value in _top(prediction, top_k)]
        yield f"{name:<{width}}  {'  '.join(cells)}\n"


def _json(named: _Named, top_k: int) -> Iterator[str]:
    before = "[\n  "
    for name, prediction in named:
        yield before + json.dumps(_record(name, prediction, top_k))
        before = ",\n  "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def _jsonl(named: _Named, top_k: int) -> Iterator[str]:
    for name, prediction in named:
        yield json.dumps(_record(name, prediction, top_k)) + "\n"


def _csv(named: _Named, top_k: int) -> Iterator[str]:
    header = ["file"]
    for rank in range(1, top_k + 1):
        suffix = "" if rank == 1 else f"_{rank}"
        header += [f"class_name{suffix}", f"probability{suffix}"]
    yield _csv_line(header)
    for name, prediction in named:
        cells = chain.from_iterable((class_name, f"{value:.6f}") for class_name, value in _top(prediction, top_k))
        yield _csv_line([name, *cells])


def _names(named: _Named, _top_k: int) -> Iterator[str]:
    for _, prediction in named:
        yield prediction.class_name + "\n"


def _top(prediction: Prediction, top_k: int) -> list[tuple[str, float]]:
    """The server's own name first, the client's table for the others."""
    return [(prediction.class_name, prediction.probability), *prediction.top(top_k)[1:]]


def _record(name: str, prediction: Prediction, top_k: int) -> dict[str, object]:
    record: dict[str, object] = {"file": name, **prediction._asdict()}
    if top_k > 1:
        record["top"] = [
            {"class_name": class_name, "probability": value} for class_name, value in _top(prediction, top_k)
        ]
    return record


def _csv_line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[_Named, int], Iterator[str]]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "names": _names,
}
