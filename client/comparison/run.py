"""The same questions to both sides, several at a time, their answers counted in order."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from client.comparison.latency import latencies
from client.comparison.questions import Question
from client.comparison.sides import AnySide, LiveSide
from client.errors import ServerError
from client.limits import CONCURRENCY
from client.pipeline import in_order
from client.types import Prediction
from fashion_common.comparison import Answer, Comparison
from fashion_common.evidence import Evidence, Latency, Side

# What a version says of an input; any other error says that there was no version to ask.
_REFUSALS = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNKNOWN"}
)
_Answers: TypeAlias = "list[Prediction] | ServerError"


class Result(NamedTuple):
    """The evidence, and the pixels of its examples: uint8 [28, 28], b"" for one that is no image."""

    evidence: Evidence
    pictures: Sequence[bytes]


def compare(
    model_name: str,
    baseline: AnySide,
    candidate: LiveSide,
    questions: Iterable[Question],
    *,
    inputs: Sequence[str],
    concurrency: int = CONCURRENCY,
    duration: float = 0.0,
) -> Result:
    """Asks both, and measures their latencies where both are live.

    inputs: what was named, for the record. concurrency: requests in flight. duration: seconds of measurement for each
    side, with one request in flight and with `concurrency`; 0 for none. An input that a version refuses is counted as
    such; any other ServerError is raised, as is what the questions raise.
    """
    comparison, digest = Comparison(), hashlib.sha256()
    refusals = _Refusals(), _Refusals()
    probe: Question | None = None
    with ThreadPoolExecutor(concurrency) as pool:
        ask = functools.partial(_ask, baseline, candidate)
        for question, first, second in in_order(pool, ask, questions, window=2 * concurrency):
            digest.update(question.content())
            if isinstance(first, ServerError) or isinstance(second, ServerError):
                refusals[0].add(first, len(question.names))
                refusals[1].add(second, len(question.names))
            else:
                probe = probe or question
                _count(comparison, question, first, second)
    times: Sequence[Latency] = ()
    if duration and probe and isinstance(baseline, LiveSide):
        times = list(latencies(baseline, candidate, probe, concurrency=concurrency, duration=duration))
    evidence = comparison.evidence(
        model_name,
        refusals[0].counted(baseline.side),
        refusals[1].counted(candidate.side),
        inputs=inputs,
        sha256=digest.hexdigest(),
        latencies=times,
    )
    return Result(evidence, comparison.pictures)


@dataclass
class _Refusals:
    """How many inputs a side refused, and its first error."""

    count: int = 0
    text: str = ""

    def add(self, answers: _Answers, count: int) -> None:
        if isinstance(answers, ServerError):
            self.count += count
            self.text = self.text or str(answers)

    def counted(self, side: Side) -> Side:
        return replace(side, refused=self.count, refusal=self.text)


def _ask(baseline: AnySide, candidate: LiveSide, question: Question) -> tuple[Question, _Answers, _Answers]:
    return question, _answers(baseline, question), _answers(candidate, question)


def _answers(side: AnySide, question: Question) -> _Answers:
    try:
        return side.answers(question)
    except ServerError as error:
        if error.code not in _REFUSALS:
            raise
        return error


def _count(
    comparison: Comparison, question: Question, first: Sequence[Prediction], second: Sequence[Prediction]
) -> None:
    for row, (name, one, other) in enumerate(zip(question.names, first, second, strict=True)):
        comparison.add(
            name,
            Answer(one.class_id, one.probabilities),
            Answer(other.class_id, other.probabilities),
            label=question.labels[row] if question.labels else None,
            pixels=functools.partial(question.pixels, row),
        )
