"""`fashion bench`: a closed loop, in which each thread sends its next request when it has its last answer."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import (
    as_json_option,
    batch_size_option,
    concurrency_option,
    figure_option,
    signature_option,
    with_connection,
)
from client.errors import ClientUsageError, ServerError
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES
from fashion_common.errors import EXIT_FAILED

if TYPE_CHECKING:
    from client.connection import Connection


@dataclass
class BenchResult:
    """The measurement: seconds of the loop, images a request, latencies in seconds, errors by code."""

    seconds: float
    batch_size: int
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """The latency, in seconds, that `share` percent of the requests do not exceed (nearest rank); NaN for none."""
        latencies = sorted(self.latencies)
        # 99.9 percent of 1,000 are 999, and 999.0000000000001 as a float.
        rank = math.ceil(round(len(latencies) * share / 100, 6))
        return latencies[max(0, rank - 1)] if latencies else float("nan")

    def summary(self) -> dict[str, float | dict[str, int]]:
        """Requests and images a second, latency percentiles in ms, errors by code."""
        requests = len(self.latencies)
        return {
            "requests": requests,
            "requests_per_second": requests / self.seconds,
            "images_per_second": requests * self.batch_size / self.seconds,
            **{f"p{share:g}_ms": 1000 * self.percentile(share) for share in (50, 90, 99, 99.9)},
            "errors": dict(self.errors),
        }

    def __str__(self) -> str:
        summary = self.summary()
        errors = ", ".join(f"{count} {code}" for code, count in self.errors.items()) or "none"
        return (
            f"{summary['requests']} requests, {summary['requests_per_second']:.0f} requests/s, "
            f"{summary['images_per_second']:.0f} images/s\n"
            f"latency p50 {summary['p50_ms']:.2f} ms, p90 {summary['p90_ms']:.2f} ms, p99 {summary['p99_ms']:.2f} ms, "
            f"p99.9 {summary['p99.9_ms']:.2f} ms\n"
            f"errors: {errors}"
        )


@click.command(epilog="Example: fashion bench --concurrency 8 --batch-size 1 --duration 10")
@concurrency_option
@batch_size_option(1)
@click.option("--duration", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds that count.")
@click.option(
    "--warm-up", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before, not counted."
)
@signature_option
@as_json_option
@figure_option("Draw the latencies' distribution (.png, .svg).")
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
    """Measure a live server: a closed loop of requests, throughput and latency percentiles. Ctrl-C prints those so far.

    The images are noise; each of the connections sends its next request when it has its last answer.
    """
    batch = Batch("DT_UINT8", os.urandom(batch_size * IMAGE_BYTES))

    def request() -> None:
        connection.predict(batch, signature_name=signature_name)

    result = measure(request, batch_size, concurrency=concurrency, duration=duration, warm_up=warm_up)
    click.echo(json.dumps(result.summary(), indent=2) if as_json else result)
    if save_figure:
        from client.commands.figures import save_latencies

        images = "1 image" if batch_size == 1 else f"{batch_size} images"
        save_latencies(result, save_figure, f"{concurrency} in flight, {images} a request")
    if result.errors:
        click.get_current_context().exit(EXIT_FAILED)


def measure(
    request: Callable[[], None], batch_size: int, *, concurrency: int, duration: float, warm_up: float
) -> BenchResult:
    """Calls `request` in `concurrency` threads for `duration` seconds, after `warm_up` seconds that do not count.

    Raises ServerError when the very first request fails; errors are counted after the warm-up. Ctrl-C ends the
    measurement early; while nothing was measured, KeyboardInterrupt is raised.
    """
    request()
    # When each began, how long it took, and the code of its error.
    requests: list[tuple[float, float, str]] = []
    stopped = threading.Event()
    begin = time.perf_counter() + warm_up

    def loop() -> None:
        # After Ctrl-C the connection is closed.
        with suppress(ClientUsageError):
            while (start := time.perf_counter()) < begin + duration and not stopped.is_set():
                code = ""
                try:
                    request()
                except ServerError as error:
                    code = error.code
                    # A dead server answers at once: a busy loop would only count how fast it is dead.
                    time.sleep(0.01)
                requests.append((start, time.perf_counter() - start, code))

    # A request without an answer must not keep the program from ending.
    threads = [threading.Thread(target=loop, daemon=True) for _ in range(concurrency)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stopped.set()
        if not any(start >= begin for start, *_ in requests):
            raise
    counted = [(seconds, code) for start, seconds, code in requests if start >= begin]
    latencies = [seconds for seconds, code in counted if not code]
    errors = Counter(code for _, code in counted if code)
    return BenchResult(max(time.perf_counter() - begin, 0.001), batch_size, latencies, errors)
