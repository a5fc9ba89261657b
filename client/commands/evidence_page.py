"""The evidence of a comparison on one page that needs no network, no script and no file beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from client.commands.evidence_text import failures, place
from client.commands.output import output_file, printable
from client.pictures.images import png
from fashion_common.evidence import Evidence, Example


def write_page(path: Path, evidence: Evidence, pictures: Sequence[bytes]) -> None:
    """pictures: of each of the evidence's examples, uint8 [28, 28], or b"". Raises ClientUsageError."""
    page = evidence_page(evidence, pictures)
    with output_file(path) as file:
        file.write(page.encode())


def evidence_page(evidence: Evidence, pictures: Sequence[bytes]) -> str:
    """The text of the page."""
    low, high = evidence.interval
    tiles = {"agreement": f"{evidence.agreement:.2%}", "95 % interval": f"{low:.2%} to {high:.2%}"}
    if accuracy := evidence.accuracy:
        tiles |= {
            "accuracy of the baseline": f"{accuracy.baseline:.2%}",
            "of the candidate": f"{accuracy.candidate:.2%}",
            "McNemar's p": f"{accuracy.p_value:.2g}",
        }
    for latency in evidence.latencies:
        tiles[f"ratio of the latencies, {latency.in_flight} in flight"] = f"{latency.ratio:.2f}"
    return Template(Path(__file__).with_name("evidence_page.html").read_text(encoding="utf-8")).substitute(
        title=_text(f"{evidence.baseline} and {evidence.candidate}"),
        origin=_text(f"{evidence.model_name} · {evidence.date} · {evidence.compared:,} inputs"),
        tiles="".join(f"<div><b>{_text(value)}</b>{_text(name)}</div>" for name, value in tiles.items()),
        failures="".join(f"<p class=failure><b>{name}</b> {_text(text)}</p>" for name, text in failures(evidence)),
        flips=_flips(evidence),
        examples="".join(map(_figure, evidence.examples, pictures)) or "<p>No input flipped.</p>",
        accuracy=_accuracy(evidence),
        latency=_latency(evidence),
        compared=_table((), _facts(evidence)),
    )


def _flips(evidence: Evidence) -> str:
    if not evidence.flips:
        return "<p>No input flipped.</p>"
    rows = ((flip.baseline, flip.candidate, flip.count) for flip in evidence.flips)
    return _table(("baseline", "candidate", "inputs"), rows)


def _accuracy(evidence: Evidence) -> str:
    if not (accuracy := evidence.accuracy):
        return "<p>No labels are known.</p>"
    counts = {
        "both right": accuracy.both_right,
        "only the baseline right": accuracy.only_baseline_right,
        "only the candidate right": accuracy.only_candidate_right,
        "both wrong": accuracy.labelled
        - accuracy.both_right
        - accuracy.only_baseline_right
        - accuracy.only_candidate_right,
    }
    meaning = "McNemar's p is how probable a difference of this size is if both are equally good."
    return f"<p>{meaning}</p>{_table(('', 'inputs'), counts.items())}"


def _latency(evidence: Evidence) -> str:
    if not evidence.latencies:
        return "<p>Not measured.</p>"
    rows = (
        (
            each.in_flight,
            f"{each.baseline_p50_ms:.2f}",
            f"{each.candidate_p50_ms:.2f}",
            f"{each.baseline_p99_ms:.2f}",
            f"{each.candidate_p99_ms:.2f}",
        )
        for each in evidence.latencies
    )
    return _table(("in flight", "p50 baseline", "candidate", "p99 baseline", "candidate"), rows)


def _facts(evidence: Evidence) -> Iterable[tuple[str, object]]:
    yield "baseline", place(evidence.baseline)
    yield "candidate", place(evidence.candidate)
    yield "inputs", ", ".join(evidence.inputs)
    yield "SHA-256 of the inputs", evidence.sha256
    if evidence.largest_difference is not None:
        yield "largest difference of a probability", f"{evidence.largest_difference:.4f}"
        yield "mean difference", f"{evidence.mean_difference:.6f}"


def _figure(example: Example, pixels: bytes) -> str:
    name = _text(Path(example.name).name)
    picture = "<div class=none>no picture</div>"
    if pixels:
        data = base64.b64encode(png(pixels)).decode()
        alt = f"{name}: {_text(example.baseline)}, then {_text(example.candidate)}"
        picture = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    lines = [
        _answer(example.baseline, example.baseline_probability, example.label),
        f"→ {_answer(example.candidate, example.candidate_probability, example.label)}",
        f"<small>{name}</small>",
    ]
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _answer(class_name: str, probability: float | None, label: str | None) -> str:
    share = "" if probability is None else f" {probability:.2f}"
    return f"{_text(class_name)}{share}{' ✓' if class_name == label else ''}"


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{head and f'<thead><tr>{head}</tr></thead>'}<tbody>{body}</tbody></table>"


def _text(value: object) -> str:
    return html.escape(printable(str(value)))
