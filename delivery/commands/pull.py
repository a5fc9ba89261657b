"""`fashion pull`: versions from anywhere to this machine's disk."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from fashion_common.errors import EXIT_FAILED
from fashion_common.layout import MODEL_BASE_PATH

if TYPE_CHECKING:
    from delivery.pull import Outcome

_EXAMPLES = """Example: fashion pull s3://bucket/models/fashion_mnist

\b
fashion pull s3://bucket/models/fashion_mnist/3 --to models --public-key release.pub
fashion pull gs://bucket/models/fashion_mnist --watch --keep 3
"""
_PROGRESS_SECONDS = 0.2


@click.command(epilog=_EXAMPLES)
@click.argument("source")
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    default=MODEL_BASE_PATH.parent,
    show_default=True,
    help="Directory of models: a version goes to DIR/MODEL/VERSION.",
    metavar="DIR",
)
@click.option(
    "--public-key",
    "keys",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Take only what this key signed; again for more keys, one of which is enough.",
)
@click.option("--keep", type=click.IntRange(min=1), help="Then remove old versions but the newest N and labelled ones.")
@click.option("--watch", is_flag=True, help="Go on: pull each new version and each move of a label, until SIGTERM.")
@click.option(
    "--interval", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True, help="Seconds of --watch."
)
@click.option("--json", "as_json", is_flag=True, help="Print each outcome as a line of JSON.")
def pull(
    *,
    source: str,
    to: Path,
    keys: tuple[Path, ...],
    keep: int | None,
    watch: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Fetch versions from SOURCE: a model base path, or one version, at any address that fsspec knows.

    Of a model base path: the newest version, those that its labels use, and its labels. A version appears whole, with
    the digests of its manifest, or not at all; after a cut, the same command goes on. One that is refused is told, and
    the one before it taken; exit code 1 when none could be.
    """
    from delivery.pull import REFUSED, Puller, Source
    from delivery.pull import watch as watch_source
    from delivery.verification import public_keys

    puller = Puller(Source(source), to, public_keys(keys) if keys else (), keep, progress_line())

    def tell(outcome: Outcome) -> None:
        click.echo(json.dumps(outcome._asdict()) if as_json else outcome, err=outcome.state == REFUSED and not as_json)

    if not watch:
        states = []
        for outcome in puller.look():
            tell(outcome)
            states.append(outcome.state)
        if puller.note:
            click.echo(f"Note: {puller.note}", err=True)
        if set(states) == {REFUSED}:
            click.get_current_context().exit(EXIT_FAILED)
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        # At once, as a pull may be killed at any step. An exception from here would be lost in a callback, and could
        # leave a lock of fsspec's held.
        os._exit(0)

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        watch_source(puller, interval, wait, tell, lambda text: click.echo(f"Note: {text}", err=True))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def progress_line() -> Callable[[int, int, int], None]:
    """What shows how far a version is, on a terminal."""
    shown = 0.0

    def show(version: int, done: int, total: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and (done == total or time.monotonic() - shown > _PROGRESS_SECONDS):
            shown = time.monotonic()
            text = f"Version {version}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
            sys.stderr.write(f"\r\x1b[K{'' if done == total else text}")
            sys.stderr.flush()

    return show
