"""`fashion call`."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from client.commands.options import FILE, concurrency_option, with_connection
from client.commands.output import output_file, progress, text_output
from client.errors import ClientError, ClientUsageError, DeadlineExceededError, ServerUnreachableError

if TYPE_CHECKING:
    from client.commands.call_requests import Question
    from client.connection import Connection

_METHODS = ("predict", "classify", "regress")
# What the command line that is shown does not repeat: what is in it anyway, and what is never printed.
_NOT_REPEATED = ("signature_name", "headers", "verbose")


@click.command(epilog="Example: fashion call --model-name iris --input 'x=[[5.1, 3.5, 1.4, 0.2]]'")
@click.option(
    "--input",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input: JSON, or @FILE (.npy, .npz, .json; the bytes of any other).",
)
@click.option(
    "--inputs",
    "path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="All inputs: JSON, JSON lines (a request each), .npz; - for standard input.",
)
@click.option("--output", type=FILE, help="Write there instead of to stdout: arrays (.npz), or JSON.")
@click.option("--signature", "signature_name", help="The signature to run.  [default: serving_default]")
@click.option("--output-filter", multiple=True, metavar="NAME", help="Only this output; again for more.")
@click.option("--method", type=click.Choice(_METHODS), help="How to run it.  [default: as the metadata say]")
@concurrency_option
@with_connection
def call(
    connection: Connection,
    texts: tuple[str, ...],
    path: Path | None,
    output: Path | None,
    signature_name: str | None,
    output_filter: tuple[str, ...],
    method: Any,
    concurrency: int,
) -> None:
    """Run a signature of any model: inputs by name in, outputs by name out, as JSON in one line.

    Without inputs it prints what the model wants, and command lines that work. JSON takes the dtypes of the signature,
    strings may be {"b64": "..."}, and a request may be a body of TF Serving's REST API. Of JSON lines each is a request
    and gets a line, in order; one that fails gets {"error": "..."}.
    """
    # numpy comes with them.
    from client.commands.call_requests import Question

    output = None if output == Path("-") else output
    if texts and path:
        raise click.UsageError("--input and --inputs exclude each other: give one")
    question = Question(signature_name, method, output_filter)
    if texts:
        document = question.options_document(texts, connection.metadata())
        _write(question.ask(connection, document), output)
    elif path:
        _ask_file(connection, question, path, output, concurrency)
    else:
        _describe(connection, signature_name)


def _describe(connection: Connection, signature_name: str | None) -> None:
    from dataclasses import replace

    from client.calls import signature_of
    from client.commands.call_example import description

    metadata = connection.metadata()
    if signature_name:
        name, signature = signature_of(metadata, signature_name)
        metadata = replace(metadata, signatures={name: signature})
    for line in description(metadata, list(_repeated_options())):
        click.echo(line)


def _repeated_options() -> Iterator[str]:
    """The options of this command line, for another one."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and name not in _NOT_REPEATED:
            value = context.params[name]
            for each in value if option.multiple else [value]:
                yield from (max(option.opts, key=len), str(each))


def _ask_file(connection: Connection, question: Question, path: Path, output: Path | None, concurrency: int) -> None:
    from client.commands.call_requests import file_documents, parsed
    from client.input_files import ARRAY_SUFFIXES, content

    if path.suffix in ARRAY_SUFFIXES:
        _write(question.ask(connection, content(path)), output)
        return
    name = "standard input" if str(path) == "-" else str(path)
    with _opened(path) as file:
        is_lines, texts = file_documents(file, name)
        if is_lines:
            _ask_lines(connection, question, texts, output, concurrency)
        else:
            _write(question.ask(connection, parsed(next(texts), name)), output)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ClientUsageError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _write(answer: Any, output: Path | None) -> None:
    from client.commands.call_answers import text, write_arrays

    if output and output.suffix == ".npz":
        with output_file(output) as file:
            write_arrays(answer, file)
        return
    line = text(answer)
    with text_output(output) as write:
        write(line)


def _ask_lines(
    connection: Connection, question: Question, lines: Iterator[bytes], output: Path | None, concurrency: int
) -> None:
    """Asks the requests, several at a time, and writes their answers in order."""
    from client.pipeline import in_order

    if output and output.suffix == ".npz":
        raise ClientUsageError(f"{output}: answers of several requests are JSON lines: --output FILE.jsonl")
    work = functools.partial(_line, connection, question)
    count, failures = 0, []
    with ThreadPoolExecutor(concurrency) as pool, text_output(output) as write:
        answers = in_order(pool, work, zip(itertools.count(1), lines, strict=False), window=2 * concurrency)
        with progress(answers, "requests") as shown:
            for count, (line, error) in enumerate(shown, 1):
                write(line)
                failures += [(count, error)] if error else []
    if failures:
        number, first = failures[0]
        click.echo(f"{len(failures)} of {count} requests failed; the first is line {number}: {first}", err=True)
        click.get_current_context().exit(max(error.exit_code for _, error in failures))


def _line(connection: Connection, question: Question, item: tuple[int, bytes]) -> tuple[str, ClientError | None]:
    """A request's answer, or its error; without a server there is none."""
    import json

    from client.commands.call_answers import text
    from client.commands.call_requests import parsed

    number, line = item
    try:
        return text(question.ask(connection, parsed(line, f"line {number}"))), None
    except (ServerUnreachableError, DeadlineExceededError):
        raise
    except ClientError as error:
        return json.dumps({"error": str(error)}) + "\n", error
