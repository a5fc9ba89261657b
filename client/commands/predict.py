"""`fashion predict`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection
from fashion_common.errors import EXIT_USAGE
from fashion_common.files import whole_file

if TYPE_CHECKING:
    from client.connection import Connection
    from client.pictures.images import Preprocess
    from client.pipeline import Answer

# The progress bar moves this many images at a time; a few images need none.
_STEP = 50


@click.command(epilog="Example: fashion predict photos/ ankle-boot.png --top-k 3 --server http://127.0.0.1:8501")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--top-k", type=click.IntRange(1, 10), default=1, show_default=True, help="How many classes an image.")
@click.option(
    "--signature", "signature_name", help="The signature to run.  [serving_default, or encoded_images over REST]"
)
@click.option(
    "--preprocess",
    type=click.Choice(["auto", "photo", "none"]),
    default="auto",
    show_default=True,
    help="photo: as the data set was made; none: only gray and 28x28; auto: photo unless gray 28x28.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv", "names"]),
    default="table",
    show_default=True,
    help="How to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there instead of to stdout.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images a request.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Requests in flight.")
@click.option("--strict", is_flag=True, help="Stop at the first bad picture.")
@click.option("--show", is_flag=True, help="Draw each picture and its ten probabilities in the terminal.")
@click.option(
    "--save-figure",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw a grid of pictures with bars (.png, .svg).",
)
@with_connection
def predict(
    connection: Connection,
    paths: tuple[str, ...],
    top_k: int,
    signature_name: str | None,
    preprocess: Preprocess,
    form: str,
    as_json: bool,
    output: Path | None,
    batch_size: int,
    concurrency: int,
    strict: bool,
    show: bool,
    save_figure: Path | None,
) -> None:
    """Print the class names of images: file, class name, probability.

    PATH is a picture, a directory, a glob, an array (.npy, .npz: uint8 [N, 28, 28]), an IDX file (also .gz), or - for
    standard input. A bad picture is a line on stderr and exit code 2 in the end; the others go on.
    """
    from client.commands.output import lines
    from client.pictures.sources import blocks
    from client.pipeline import answers

    if save_figure:
        from client.commands.figures import check_name

        check_name(save_figure)
    found = answers(
        connection,
        blocks(paths, preprocess, batch_size),
        signature_name=signature_name,
        batch_size=batch_size,
        concurrency=concurrency,
    )
    report = _Report(strict=strict, keep=save_figure is not None)
    with _writer(output) as write, report.progress(found) as watched:
        good = report.good(watched)
        for text in _drawn(good) if show else lines(good, "json" if as_json else form, top_k):
            write(text)
    if save_figure and report.kept:
        from client.commands.figures import save_predictions

        save_predictions(report.kept, save_figure)
    if report.bad:
        click.get_current_context().exit(EXIT_USAGE)


class _Report:
    """Sorts the answers: bad pictures to stderr, the first good ones kept for a figure, progress for long work."""

    def __init__(self, *, strict: bool, keep: bool) -> None:
        self.bad = 0
        self.kept: list[Answer] = []
        self._strict = strict
        self._keep = keep

    def good(self, found: Iterator[Answer]) -> Iterator[Answer]:
        for answer in found:
            if answer.error:
                if self._strict:
                    raise answer.error
                self.bad += 1
                click.echo(f"Error: {answer.error}", err=True)
                continue
            if self._keep:
                from client.commands.figures import MOST_IMAGES

                if len(self.kept) < MOST_IMAGES:
                    self.kept.append(answer)
            yield answer

    @contextmanager
    def progress(self, found: Iterator[Answer]) -> Iterator[Iterator[Answer]]:
        if not sys.stderr.isatty() or sys.stdout.isatty():
            yield found
            return
        with click.progressbar(found, label="images", file=sys.stderr, show_pos=True, update_min_steps=_STEP) as bar:
            yield iter(bar)


def _drawn(found: Iterator[Answer]) -> Iterator[str]:
    from client.commands.terminal import bar_lines, picture_lines, side_by_side

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for answer in found:
        assert answer.prediction is not None
        picture = picture_lines(answer.pixels, colour=colour)
        yield f"{answer.name}\n{side_by_side(picture, bar_lines(answer.prediction))}\n\n"


@contextmanager
def _writer(output: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes a piece of text: to stdout, or to a file that is there only when it is whole."""
    if output is None:
        yield functools.partial(click.echo, nl=False)
        return
    from client.errors import ClientUsageError

    try:
        with whole_file(output) as file:
            yield lambda text: file.write(text.encode())
    except OSError as error:
        raise ClientUsageError(f"{output}: cannot be written: {error.strerror}") from error
