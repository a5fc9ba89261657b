"""`fashion compare`: two versions side by side on the same inputs."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.evidence_text import evidence_text
from client.commands.options import (
    FILE,
    Servers,
    as_json_option,
    batch_size_option,
    concurrency_option,
    data_dir_option,
    preprocess_option,
    signature_option,
    with_servers,
)
from client.errors import ClientError
from client.limits import BATCH_SIZE, CONCURRENCY
from client.transports.address import DEFAULT_SERVER
from fashion_common.evidence import RECORDED

if TYPE_CHECKING:
    from client.comparison.questions import Question
    from client.comparison.run import Result
    from client.comparison.sides import AnySide, LiveSide
    from client.types import Preprocess

_SIDE = "LABEL|VERSION|URL"
# The progress bar moves this many inputs at a time.
_STEP = 50
# An evidence of thousands of pictures need not name each.
_NAMED_INPUTS = 20


@click.command(epilog="Example: fashion compare recordings/ --candidate 7 --html compare.html")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--test-set", is_flag=True, help="Compare on the 10,000 labelled test images instead.")
@data_dir_option
@click.option(
    "--baseline",
    default="stable",
    show_default=True,
    metavar=f"{_SIDE}|{RECORDED}",
    help=f"The version to compare with; {RECORDED}: the answers in the recordings.",
)
@click.option("--candidate", default="canary", show_default=True, metavar=_SIDE, help="The version in question.")
@click.option(
    "--duration",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds of latency measured for each version, at one and at --concurrency in flight; 0 for none.",
)
@click.option("--html", type=FILE, help="Write a page with the pictures that flipped.")
@signature_option
@preprocess_option
@batch_size_option()
@concurrency_option
@as_json_option
@with_servers
def compare(
    servers: Servers,
    inputs: tuple[str, ...],
    test_set: bool,
    data_dir: Path | None,
    baseline: str,
    candidate: str,
    duration: float,
    html: Path | None,
    signature_name: str | None,
    preprocess: Preprocess,
    batch_size: int,
    concurrency: int,
    as_json: bool,
) -> None:
    """Put two versions side by side on the same inputs: agreement, flips, accuracy, latency.

    INPUT is a recording or a directory of them (the Predict requests), or what `fashion predict` takes: a picture,
    a directory, a glob, an array, an IDX file. A version is named by its label, its number, or the URL of a server,
    whose newest it then is. A label that moves meanwhile changes nothing: the version that it named in the
    beginning answers.
    """
    if bool(inputs) == test_set:
        raise click.UsageError("give either inputs or --test-set")
    if candidate == RECORDED:
        raise click.UsageError(f"--candidate {RECORDED}: recorded answers are a baseline: name a version")
    evidence, pictures = compared(
        servers,
        inputs,
        baseline,
        candidate,
        data_dir=data_dir,
        signature_name=signature_name,
        preprocess=preprocess,
        batch_size=batch_size,
        concurrency=concurrency,
        duration=duration,
    )
    if html:
        from client.commands.evidence_page import write_page

        write_page(html, evidence, pictures)
    click.echo(json.dumps(evidence.to_json(), indent=2) if as_json else evidence_text(evidence))


def compared(
    servers: Servers,
    inputs: Sequence[str],
    baseline: str,
    candidate: str,
    *,
    data_dir: Path | None = None,
    signature_name: str | None = None,
    preprocess: Preprocess = "auto",
    batch_size: int = BATCH_SIZE,
    concurrency: int = CONCURRENCY,
    duration: float = 1.0,
) -> Result:
    """What the comparison of two versions shows, each by what the options call it; on the test set without inputs.

    Raises ClientError, also where nothing was compared.
    """
    from client.comparison.questions import image_questions, questions
    from client.comparison.run import compare as run

    if inputs:
        asked = questions(inputs, preprocess=preprocess, batch_size=batch_size, signature_name=signature_name)
        names, total = _names(inputs), None
    else:
        from client.commands.evaluate import test_set

        images, labels = test_set(data_dir, batch_size)
        asked = image_questions(images, batch_size, signature_name, labels)
        names, total = ["test set"], len(labels)
    with (
        open_side(baseline, servers) as first,
        open_live_side(candidate, servers) as second,
        _progress(asked, total) as progress,
    ):
        result = run(
            servers.model_name, first, second, progress, inputs=names, concurrency=concurrency, duration=duration
        )
    if not result.evidence.compared:
        refusal = result.evidence.candidate.refusal or result.evidence.baseline.refusal
        raise ClientError(f"nothing was compared: {refusal or 'the inputs hold no Predict request'}")
    return result


@contextmanager
def open_side(name: str, servers: Servers) -> Iterator[AnySide]:
    """A side by what the options call it: a label, a number, a URL, or `recorded`. Raises ServerError."""
    if name == RECORDED:
        from client.comparison.sides import RecordedSide

        yield RecordedSide()
        return
    with open_live_side(name, servers) as side:
        yield side


@contextmanager
def open_live_side(name: str, servers: Servers) -> Iterator[LiveSide]:
    """`open_side`, of a version that answers."""
    from client.comparison.sides import LiveSide

    url = name if "://" in name else None
    number = int(name) if name.isascii() and name.isdecimal() else None
    label = None if url or number is not None else name
    with servers.connection(number, label, url=url) as connection:
        yield LiveSide.of(connection, name, url or ", ".join(servers.urls) or DEFAULT_SERVER)


def _names(inputs: Sequence[str]) -> list[str]:
    """Of the inputs, for the record."""
    names = list(inputs[:_NAMED_INPUTS])
    return names if len(inputs) <= _NAMED_INPUTS else [*names, f"and {len(inputs) - _NAMED_INPUTS} more"]


@contextmanager
def _progress(questions: Iterator[Question], total: int | None) -> Iterator[Iterator[Question]]:
    """The questions, with a count of their inputs on stderr where that is a terminal. total: where it is known."""
    if not sys.stderr.isatty():
        yield questions
        return
    # Without a length click shows how many there were.
    with click.progressbar(
        itertools.count(), length=total, label="inputs", file=sys.stderr, show_pos=True, update_min_steps=_STEP
    ) as bar:

        def counted() -> Iterator[Question]:
            for question in questions:
                yield question
                bar.update(len(question.names))

        yield counted()
