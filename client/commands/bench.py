"""`fashion bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection


@click.command(epilog="Example: fashion bench --concurrency 8 --batch-size 1 --duration 10")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Requests in flight.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images a request.")
@click.option("--duration", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds that count.")
@click.option(
    "--warm-up", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before, not counted."
)
@click.option("--signature", "signature_name", help="The signature to run.  [default: serving_default]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--save-figure",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the latencies' distribution (.png, .svg).",
)
@with_connection
def bench(
    connection: Connection,
    concurrency: int,
    batch_size: int,
    duration: float,
    warm_up: float,
    signature_name: str | None,
    as_json: bool,
    save_figure: Path | None,
) -> None:
    """Measure a live server: a closed loop of requests, throughput and latency percentiles.

    The images are noise; each of the connections sends its next request when it has its last answer.
    """
    from client.commands.closed_loop import bench as measure
    from client.pictures.batch import Batch
    from client.types import IMAGE_BYTES

    if save_figure:
        from client.commands.figures import check_name

        check_name(save_figure)
    batch = Batch("DT_UINT8", os.urandom(batch_size * IMAGE_BYTES))
    result = measure(connection, batch, signature_name, concurrency=concurrency, duration=duration, warm_up=warm_up)
    summary = result.summary()
    click.echo(json.dumps(summary, indent=2) if as_json else _as_text(summary))
    if save_figure:
        from client.commands.figures import save_latencies

        save_latencies(
            result.latencies,
            save_figure,
            f"{concurrency} in flight, {batch_size} image{'' if batch_size == 1 else 's'} a request",
        )
    if result.errors:
        click.get_current_context().exit(EXIT_FAILED)


def _as_text(summary: dict[str, float | int | dict[str, int]]) -> str:
    errors = summary["errors"]
    assert isinstance(errors, dict)
    told = ", ".join(f"{count} {code}" for code, count in errors.items()) or "none"
    return (
        f"{summary['requests']} requests, {summary['requests_per_second']:.0f} requests/s, "
        f"{summary['images_per_second']:.0f} images/s\n"
        f"latency p50 {summary['p50_ms']:.2f} ms, p90 {summary['p90_ms']:.2f} ms, p99 {summary['p99_ms']:.2f} ms, "
        f"p99.9 {summary['p99.9_ms']:.2f} ms\n"
        f"errors: {told}"
    )
