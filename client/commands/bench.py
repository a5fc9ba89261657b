"""`fashion bench`: a closed loop of requests, or with `--rate` an open one."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import (
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
from client.load import closed_loop, open_loop
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection


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
    as_json: bool,
    save_figure: Path | None,
) -> None:
    """Measure a live server: throughput and latency percentiles. Ctrl-C prints those so far.

    The images are noise. Without --rate each of --concurrency threads sends its next request when it has its last
    answer. With it requests are due at times of their own and latency counts from there, so that queueing is seen too.
    """
    dues = due_times(rate, arrivals)
    batch = Batch("DT_UINT8", os.urandom(batch_size * IMAGE_BYTES))

    def request() -> int:
        connection.predict(batch, signature_name=signature_name)
        return batch_size

    request()
    requests = itertools.repeat(request)
    if dues is None:
        result = closed_loop(requests, concurrency=concurrency, duration=duration, warm_up=warm_up)
    else:
        schedule = zip(dues, requests, strict=False)
        result = open_loop(schedule, concurrency=concurrency, duration=duration, warm_up=warm_up)
    click.echo(json.dumps(result.summary(), indent=2) if as_json else result)
    if save_figure:
        from client.commands.figures import save_latencies

        images = "1 image" if batch_size == 1 else f"{batch_size} images"
        pace = f"{rate:g} requests/s due, " if rate else ""
        save_latencies(result, save_figure, f"{pace}{concurrency} in flight, {images} a request")
    if result.errors:
        click.get_current_context().exit(EXIT_FAILED)
