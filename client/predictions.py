"""The predictions in a signature's outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from client.errors import ServerError
from client.types import Output, Prediction
from fashion_common.served_model import CLASS_NAMES


def predictions(outputs: dict[str, Output], count: int) -> Iterator[Prediction]:
    """The predictions in the outputs of any signature that gives ten probabilities an image; each is made when taken.

    Raises ServerError, at once, for outputs without them.
    """
    probabilities = outputs.get("probabilities") or outputs.get("scores")
    if probabilities is None and len(outputs) == 1:
        [probabilities] = outputs.values()
    numbers = _numbers(probabilities)
    classes = len(CLASS_NAMES)
    if probabilities is None or probabilities.shape != (count, classes) or len(numbers) != count * classes:
        shapes = {name: list(output.shape) for name, output in outputs.items()}
        raise ServerError("INTERNAL", f"expected the probabilities [{count}, {classes}], the server answered {shapes}")
    ids = list(map(int, _numbers(outputs.get("class_ids")))) or [row.index(max(row)) for row in _rows(numbers)]
    fits = len(ids) == count and set(ids) <= set(range(classes))
    names = _names(outputs.get("class_names")) or ([CLASS_NAMES[class_id] for class_id in ids] if fits else [])
    if not fits or len(names) != count:
        raise ServerError("INTERNAL", "the server's class_ids and class_names do not fit its probabilities")
    likeliest = [numbers[row * classes + class_id] for row, class_id in enumerate(ids)]
    # The loop runs in C: in bulk, it is most of the client's time.
    return map(Prediction._make, zip(ids, names, likeliest, _rows(numbers), strict=True))


def _rows(numbers: Sequence[float]) -> Iterator[tuple[float, ...]]:
    return zip(*[iter(numbers)] * len(CLASS_NAMES), strict=True)


def _names(output: Output | None) -> list[str]:
    if output is None:
        return []
    return [value.decode() for value in output.values if isinstance(value, bytes)]


def _numbers(output: Output | None) -> list[float]:
    """The values when all of them are numbers, else none."""
    if output is None:
        return []
    numbers = cast("list[float]", output.values)
    try:
        # The quickest look at every type: only numbers have a sum.
        sum(numbers)
    except (TypeError, OverflowError):
        return []
    return numbers
