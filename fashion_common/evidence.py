"""What the comparison of two versions showed, as a record to keep.

`fashion compare` and `fashion export --replay` make it; `thresholds` judges it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from fashion_common.errors import EvidenceError
from fashion_common.proportions import mcnemar_p_value, wilson_interval

_R = TypeVar("_R")

# The name of a side whose answers are those of a recording.
RECORDED = "recorded"
# The class of an answer whose probabilities are not all finite numbers.
NO_NUMBER = "NaN"


@dataclass(frozen=True)
class Side:
    """One of the two that were compared.

    name: as it was asked for: a label, a version's number, a URL, `recorded`, or a run. server: its URL, "" without.
    version: the one that answered; None where it has no number yet, or recorded answers are of several.
    not_numbers: answers with a probability that is NaN or infinite. refused: inputs that it answered with an error,
    and `refusal`, the first of these.
    """

    name: str
    server: str = ""
    version: int | None = None
    not_numbers: int = 0
    refused: int = 0
    refusal: str = ""

    def __str__(self) -> str:
        """`stable (version 6)`."""
        return self.name if self.version is None or self.name == str(self.version) else f"{self.name} ({self.number})"

    @property
    def number(self) -> str:
        """`version 6`; "" without one."""
        return "" if self.version is None else f"version {self.version}"


@dataclass(frozen=True)
class Accuracy:
    """Both on the inputs whose labels are known: how many there are, and which of the two were right."""

    labelled: int
    both_right: int
    only_baseline_right: int
    only_candidate_right: int

    @property
    def baseline(self) -> float:
        """The share that the baseline got right."""
        return (self.both_right + self.only_baseline_right) / self.labelled

    @property
    def candidate(self) -> float:
        """The share that the candidate got right."""
        return (self.both_right + self.only_candidate_right) / self.labelled

    @property
    def p_value(self) -> float:
        """How probable such a difference is if both are equally good: McNemar's exact test."""
        return mcnemar_p_value(self.only_baseline_right, self.only_candidate_right)


@dataclass(frozen=True)
class Latency:
    """Of both with so many requests in flight, in turn: percentiles in ms, and how many were answered.

    ratio: the candidate's to the baseline's, the median of all turns' ratios, each of two medians.
    """

    in_flight: int
    baseline_p50_ms: float
    baseline_p99_ms: float
    baseline_requests: int
    candidate_p50_ms: float
    candidate_p99_ms: float
    candidate_requests: int
    ratio: float


@dataclass(frozen=True)
class Flip:
    """A pair of classes, by name, that the baseline and the candidate gave to the same inputs, and how often."""

    baseline: str
    candidate: str
    count: int


@dataclass(frozen=True)
class Example:
    """An input that flipped: its name and label where known, both classes, and the probability that each had.

    difference: the largest of any class. None where a probability is no number.
    """

    name: str
    label: str | None
    baseline: str
    baseline_probability: float | None
    candidate: str
    candidate_probability: float | None
    difference: float | None


@dataclass(frozen=True)
class Evidence:
    """A baseline and a candidate on the same inputs.

    date: ISO 8601 in UTC. inputs: what was named; sha256: of all their tensors, one after the other. compared: inputs
    that both answered; agreeing: with the same class. largest_difference, mean_difference: of the probabilities,
    absolute, over answers that are numbers; None without any. flips: the most frequent first; examples: those with the
    largest difference first, each picture once. accuracy: None without labels. latencies: empty if not measured.
    """

    model_name: str
    date: str
    baseline: Side
    candidate: Side
    inputs: tuple[str, ...]
    sha256: str
    compared: int
    agreeing: int
    largest_difference: float | None
    mean_difference: float | None
    accuracy: Accuracy | None = None
    latencies: tuple[Latency, ...] = ()
    flips: tuple[Flip, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def agreement(self) -> float:
        """The share of the inputs with the same class; 0 without any."""
        return self.agreeing / self.compared if self.compared else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the agreement."""
        return wilson_interval(self.agreeing, self.compared)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, with what follows from the counts."""
        record = dataclasses.asdict(self) | {"agreement": self.agreement, "agreement_interval": self.interval}
        if self.accuracy:
            accuracy = self.accuracy
            figures = {name: getattr(accuracy, name) for name in ("baseline", "candidate", "p_value")}
            record["accuracy"] = figures | record["accuracy"]
        return record

    @classmethod
    def from_json(cls, record: object) -> Evidence:
        """What `to_json` gave. Raises EvidenceError."""
        if not isinstance(record, Mapping):
            raise EvidenceError(f"evidence is a JSON object, not {type(record).__name__}: give what --json printed")
        accuracy = record.get("accuracy")
        evidence = _record(
            cls,
            dict(record)
            | {
                "baseline": _record(Side, record.get("baseline")),
                "candidate": _record(Side, record.get("candidate")),
                "inputs": tuple(map(str, _list(record, "inputs"))),
                "accuracy": accuracy and _record(Accuracy, accuracy),
                "latencies": tuple(_record(Latency, each) for each in _list(record, "latencies")),
                "flips": tuple(_record(Flip, each) for each in _list(record, "flips")),
                "examples": tuple(_record(Example, each) for each in _list(record, "examples")),
            },
        )
        if not 0 <= evidence.agreeing <= evidence.compared:
            raise EvidenceError(f"evidence with {evidence.agreeing} of {evidence.compared} inputs agreeing: {_FIX}")
        if evidence.accuracy and not 0 < evidence.accuracy.labelled <= evidence.compared:
            raise EvidenceError(f"evidence with {evidence.accuracy.labelled} labels: {_FIX}")
        return evidence


_FIX = "give what `fashion compare --json` printed"


def _record(kind: type[_R], values: object) -> _R:
    """A dataclass of the values by its fields' names. Raises EvidenceError for a missing or a wrong one."""
    if not isinstance(values, Mapping):
        raise EvidenceError(f"evidence without {kind.__name__.lower()}: {_FIX}")
    hints = get_type_hints(kind)
    arguments = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in values and field.default is dataclasses.MISSING:
            raise EvidenceError(f"evidence without {field.name}: {_FIX}")
        value = values.get(field.name, field.default)
        hint = getattr(hints[field.name], "__origin__", hints[field.name])
        if not isinstance(value, hint) and not (hint in (float, float | None) and isinstance(value, int)):
            raise EvidenceError(f"evidence with {field.name} {value!r}: {_FIX}")
        arguments[field.name] = value
    return kind(**arguments)


def _list(record: Mapping[str, Any], name: str) -> Sequence[Any]:
    values = record.get(name, [])
    if not isinstance(values, list | tuple):
        raise EvidenceError(f"evidence with {name} {values!r}: {_FIX}")
    return values
