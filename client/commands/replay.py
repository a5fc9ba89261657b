"""`fashion replay`: recorded requests, sent again as fast as it goes, at their own pace, or at a rate."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from client.commands.options import (
    arrivals_option,
    as_json_option,
    concurrency_option,
    due_times,
    rate_option,
    with_connection_without_retry,
)
from client.types import ModelSpec
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection
    from client.measurement import LoadResult
    from client.replay import Replayer

_T = TypeVar("_T")


@click.command(epilog="Example: fashion replay recordings/*.tfrecord --speed 10 --server grpc://127.0.0.1:8500")
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, path_type=Path),
)
@concurrency_option
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    help="Send them when they were asked, so many times as fast; 1 is the recorded pace.",
)
@rate_option
@arrivals_option
@click.option("--limit", type=click.IntRange(1), help="Only the first so many requests.")
@click.option("--keep-model", is_flag=True, help="Ask the model and version that each request names.")
@as_json_option
@with_connection_without_retry
def replay(
    connection: Connection,
    paths: tuple[Path, ...],
    concurrency: int,
    speed: float | None,
    rate: float | None,
    arrivals: str | None,
    limit: int | None,
    keep_model: bool,
    as_json: bool,
) -> None:
    """Send recorded requests to a live server again: throughput, latency, errors, and answers other than recorded.

    FILE is a recording, a directory of them, or a warmup file; several are merged by time. All are asked of
    --model-name (and its --model-version or --version-label). Without --speed or --rate each of --concurrency threads
    sends the next request when it has its last answer. Ctrl-C prints the results so far.
    """
    from client.load import closed_loop, open_loop
    from client.replay import Replayer, nothing_to_send, recorded_pace, records
    from serving.apis.recordings import recordings_at

    files = [file for path in paths for file in recordings_at(path)]
    if speed is not None and rate is not None:
        raise click.UsageError("--speed and --rate exclude each other: give one")
    if keep_model and connection.model != ModelSpec():
        raise click.UsageError("--keep-model asks the models that the requests name: leave out those of the command")
    dues = due_times(rate, arrivals)
    # They are read twice, so that no memory is needed for them: what is wrong with one is told before anything is sent.
    passed_over: Counter[str] = Counter()
    with _progress(islice(records(files, passed_over), limit), "reading") as logs:
        seconds = Counter(log.log_metadata.timestamp_secs for log in logs)
    if not seconds:
        raise nothing_to_send(paths, passed_over)
    pace = recorded_pace(seconds, speed) if speed is not None else None
    replayer = Replayer(connection.exchange, None if keep_model else connection.model)
    # A server or a version that is not there is an error, and no measurement.
    replayer.send(next(records(files, Counter())))
    with _progress(islice(records(files, Counter()), seconds.total()), "requests", seconds.total()) as logs:
        if pace is not None:
            result = open_loop(((pace(log), replayer.request(log)) for log in logs), concurrency=concurrency)
        elif dues is not None:
            result = open_loop(zip(dues, map(replayer.request, logs), strict=False), concurrency=concurrency)
        else:
            result = closed_loop(map(replayer.request, logs), concurrency=concurrency)
    replayer.compare()
    click.echo(
        json.dumps(_summary(result, replayer, passed_over), indent=2)
        if as_json
        else _text(result, replayer, passed_over)
    )
    if result.errors:
        click.get_current_context().exit(EXIT_FAILED)


@contextmanager
def _progress(items: Iterator[_T], label: str, length: int | None = None) -> Iterator[Iterable[_T]]:
    """The items, with a progress bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield items
        return
    with click.progressbar(items, length, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar


def _summary(result: LoadResult, replayer: Replayer, passed_over: Counter[str]) -> dict[str, Any]:
    """What bench has; answers by signature and batch size, and how many are as recorded."""
    return {
        **result.summary(),
        "first_error": str(replayer.first_error) if replayer.first_error else None,
        "batch_sizes": _batch_sizes(replayer),
        "as_recorded": replayer.same,
        "different": replayer.different,
        "passed_over": dict(passed_over),
    }


def _text(result: LoadResult, replayer: Replayer, passed_over: Counter[str]) -> str:
    lines = [str(result), *([f"first error: {replayer.first_error}"] if replayer.first_error else [])]
    for signature_name, counts in _batch_sizes(replayer).items():
        sizes = (f"{count} x {size} image{'s' * (size != 1)}" for size, count in counts.items())
        lines.append(f"{signature_name}: {', '.join(sizes)}")
    if replayer.different:
        lines.append(f"answers: {replayer.same} as recorded, {replayer.different} not (fashion compare shows how)")
    elif replayer.same:
        lines.append(f"answers: {replayer.same} as recorded")
    elif replayer.answers:
        lines.append("answers: not compared, since none is recorded")
    if passed_over:
        reasons = ", ".join(f"{count} {reason}" for reason, count in passed_over.items())
        lines.append(f"records passed over: {reasons}")
    return "\n".join(lines)


def _batch_sizes(replayer: Replayer) -> dict[str, dict[int, int]]:
    """How many answers each signature and batch size has."""
    sizes: dict[str, dict[int, int]] = {}
    for kind, count in sorted(replayer.answers.items()):
        sizes.setdefault(kind.signature_name, {})[kind.batch_size] = count
    return sizes
