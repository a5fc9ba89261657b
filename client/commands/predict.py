"""`fashion predict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from client.commands.options import (
    FILE,
    batch_size_option,
    concurrency_option,
    figure_option,
    preprocess_option,
    with_connection,
)
from client.commands.output import FORMATS, lines, printable, progress, text_output
from client.errors import ClientError
from client.limits import FIGURE_IMAGES
from fashion_common.errors import EXIT_USAGE

if TYPE_CHECKING:
    from client.connection import Connection
    from client.pipeline import Answer
    from client.types import Preprocess


@click.command(epilog="Example: fashion predict photos/ ankle-boot.png --top-k 3 --server http://127.0.0.1:8501")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--top-k", type=click.IntRange(1, 10), default=1, show_default=True, help="How many classes an image.")
@click.option(
    "--signature", "signature_name", help="The signature to run.  [serving_default, or encoded_images over REST]"
)
@preprocess_option
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS]),
    help="How to print.  [default: as --output ends (.json, .jsonl, .csv), else table]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=FILE, help="Write there instead of to stdout.")
@batch_size_option()
@concurrency_option
@click.option("--strict", is_flag=True, help="Stop at the first bad picture.")
@click.option("--show", is_flag=True, help="Draw each picture and its ten probabilities in the terminal.")
@figure_option("Draw a grid of pictures with bars (.png, .svg).")
@click.option("--record", type=FILE, help="Record requests and answers in this new file.")
@with_connection
def predict(
    connection: Connection,
    paths: tuple[str, ...],
    top_k: int,
    signature_name: str | None,
    preprocess: Preprocess,
    form: str | None,
    as_json: bool,
    output: Path | None,
    batch_size: int,
    concurrency: int,
    strict: bool,
    show: bool,
    save_figure: Path | None,
    record: Path | None,
) -> None:
    """Print the class names of images: file, class name, probability.

    PATH is a picture, a directory, a glob, an array (.npy, .npz: uint8 [N, 28, 28]), an IDX file (also .gz), or - for
    standard input. A bad picture is a line on stderr and exit code 2 in the end; the others go on.
    """
    from client.pictures.sources import blocks
    from client.pipeline import answers

    form = _format(form, output, as_json=as_json, show=show)
    results = answers(
        connection,
        blocks(paths, preprocess, batch_size),
        signature_name=signature_name,
        batch_size=batch_size,
        concurrency=concurrency,
    )
    sorter = _Sorter(strict=strict, keep=FIGURE_IMAGES if save_figure else 0)
    with (
        _recorded(connection, record),
        closing(results),
        text_output(output) as write,
        progress(results, "images") as shown,
    ):
        good = sorter.good(shown)
        for text in _drawings(good) if show else lines(good, form, top_k):
            write(text)
    if save_figure and sorter.first:
        from client.commands.figures import save_predictions

        save_predictions(sorter.first, save_figure)
        if sorter.count > len(sorter.first):
            click.echo(f"{save_figure} shows the first {len(sorter.first)} of {sorter.count} images", err=True)
    if sorter.failure:
        place = output or "standard output"
        click.echo(f"Ended early: the first {sorter.count} answers are in {place} (fashion score goes on)", err=True)
        raise sorter.failure
    if sorter.errors:
        click.get_current_context().exit(EXIT_USAGE)


@contextmanager
def _recorded(connection: Connection, file: Path | None) -> Iterator[None]:
    """Has a connection's requests and answers recorded, if there is a file for them."""
    if file is None:
        yield
        return
    from client.recorder import Recorder

    with Recorder(file) as connection.recorder:
        yield


def _format(form: str | None, output: Path | None, *, as_json: bool, show: bool) -> str:
    """The format that was asked for; an option of the command line comes before one of the environment."""
    source = click.get_current_context().get_parameter_source
    if show and (form or as_json) and source("show") in (source("form"), source("as_json")):
        raise click.UsageError("--show draws, --format and --json print: give one")
    if as_json and form not in (None, "json") and source("form") == source("as_json"):
        raise click.UsageError(f"--json and --format {form} contradict each other: give one")
    if as_json and (form is None or source("as_json") is ParameterSource.COMMANDLINE):
        return "json"
    suffix = output.suffix[1:].lower() if output else ""
    return form or (suffix if suffix in FORMATS else "table")


class _Sorter:
    """Separates the answers: bad pictures go to stderr, the `first` good ones are kept for a figure.

    An error after the first answer ends them as if they were all, and becomes the `failure`: what is done is kept.
    """

    def __init__(self, *, strict: bool, keep: int) -> None:
        self.errors = 0
        self.count = 0
        self.failure: BaseException | None = None
        self.first: list[Answer] = []
        self._strict = strict
        self._keep = keep

    def good(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        try:
            for answer in answers:
                if not answer.error:
                    self.count += 1
                    if len(self.first) < self._keep:
                        self.first.append(answer)
                    yield answer
                elif self._strict:
                    raise answer.error
                else:
                    self.errors += 1
                    click.echo(f"Error: {answer.error}", err=True)
        except (ClientError, KeyboardInterrupt) as error:
            if not self.count:
                raise
            self.failure = error


def _drawings(answers: Iterable[Answer]) -> Iterator[str]:
    from client.commands.terminal import drawing

    for answer in answers:
        assert answer.prediction is not None
        yield f"{printable(answer.name)}\n{drawing(answer.pixels, answer.prediction)}\n\n"
