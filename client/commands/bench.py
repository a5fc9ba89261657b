"""`fashion bench`: a closed loop of requests to any model, or with `--rate` an open one."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.calls import signature_of
from client.commands.options import (
    FILE,
    arrivals_option,
    as_json_option,
    batch_size_option,
    concurrency_option,
    due_times,
    figure_option,
    rate_option,
    signature_option,
    with_connection_without_retry,
)
from client.load import Request, closed_loop, open_loop
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES, Signature
from fashion_common.errors import EXIT_FAILED
from fashion_common.served_model import SIGNATURES

if TYPE_CHECKING:
    from client.connection import Connection
    from client.sample_inputs import Shapes
    from serving.apis.tensors import Array


def _shapes(_ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> Shapes:
    shapes = {}
    for text in texts:
        name, _, sizes = text.partition("=")
        try:
            shapes[name] = tuple(map(int, sizes.split(",")))
        except ValueError as error:
            raise click.BadParameter(f"{text}: expected INPUT=SIZE,SIZE,..., such as x=8,224,224,3") from error
    return shapes


@click.command(epilog="Example: fashion bench --rate 500 --concurrency 32 --duration 10")
@concurrency_option
@batch_size_option(1)
@rate_option
@arrivals_option
@click.option("--duration", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds that count.")
@click.option(
    "--warm-up", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before, not counted."
)
@signature_option
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="INPUT=SIZE,...",
    help="An input's shape, as x=8,224,224,3, where the metadata leaves sizes free.",
)
@click.option("--data", type=FILE, help="Send these rows in turn (.npz, .npy, .json by input) instead of noise.")
@as_json_option
@figure_option("Draw the latencies' distribution (.png, .svg).")
@with_connection_without_retry
def bench(
    connection: Connection,
    concurrency: int,
    batch_size: int,
    rate: float | None,
    arrivals: str | None,
    duration: float,
    warm_up: float,
    signature_name: str | None,
    shapes: Shapes,
    data: Path | None,
    as_json: bool,
    save_figure: Path | None,
) -> None:
    """Measure a live server: throughput and latency percentiles. Ctrl-C prints those so far.

    The inputs are noise of the signature's dtypes and shapes. Without --rate each of --concurrency threads sends its
    next request when it has its last answer. With it requests are due at times of their own and latency counts from
    there, so that queueing is seen too.
    """
    dues = due_times(rate, arrivals)
    requests, unit = _requests(connection, signature_name, batch_size, shapes, data)
    next(requests)()
    if dues is None:
        result = closed_loop(requests, concurrency=concurrency, duration=duration, warm_up=warm_up)
    else:
        schedule = zip(dues, requests, strict=False)
        result = open_loop(schedule, concurrency=concurrency, duration=duration, warm_up=warm_up)
    result.unit = unit
    click.echo(json.dumps(result.summary(), indent=2) if as_json else result)
    if save_figure:
        from client.commands.figures import save_latencies

        images = f"{batch_size} {unit[:-1] if batch_size == 1 else unit}"
        pace = f"{rate:g} requests/s due, " if rate else ""
        save_latencies(result, save_figure, f"{pace}{concurrency} in flight, {images} a request")
    if result.errors:
        click.get_current_context().exit(EXIT_FAILED)


def _requests(
    connection: Connection, signature_name: str | None, batch_size: int, shapes: Shapes, data: Path | None
) -> tuple[Iterator[Request], str]:
    """Requests without end, and what they hold: images where the signature takes the served model's, else rows."""
    metadata = connection.metadata()
    name, signature = signature_of(metadata, signature_name)
    if not shapes and not data and _takes_images(name, signature):
        batch = Batch("DT_UINT8", os.urandom(batch_size * IMAGE_BYTES))

        def send_images() -> int:
            connection.predict(batch, signature_name=signature_name)
            return batch_size

        return itertools.repeat(send_images), "images"
    # numpy is for other models.
    from client import sample_inputs

    if data:
        all_inputs = sample_inputs.file_inputs(data, signature)
        parts = sample_inputs.batches(all_inputs, signature, batch_size)
    else:
        parts = [sample_inputs.noise(signature, batch_size, shapes)]

    def sender(inputs: dict[str, Array]) -> Request:
        rows = sample_inputs.row_count(inputs, signature) or 1

        def send() -> int:
            connection.infer(inputs, signature_name=signature_name)
            return rows

        return send

    return itertools.cycle([sender(part) for part in parts]), "rows"


def _takes_images(name: str, signature: Signature) -> bool:
    """Whether it takes pictures of 28x28, as numbers in any form, or as files under our signatures' names."""
    if len(signature.inputs) != 1:
        return False
    [info] = signature.inputs.values()
    if info.dtype == "DT_STRING":
        return name in SIGNATURES
    return info.dtype in ("DT_UINT8", "DT_FLOAT") and math.prod((info.shape or ())[1:]) == IMAGE_BYTES
