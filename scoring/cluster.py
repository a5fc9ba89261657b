"""The engine of a Ray cluster: the same scorer in actors, as many as there is work for.

https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map_batches.html
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import sys
from collections.abc import Generator, Iterable, Iterator

from scoring.errors import ScoringError, ScoringUsageError
from scoring.parts import Record
from scoring.pieces import Piece
from scoring.scorer import Job, Scorer

_REACH_SECONDS = 10.0
# Of the plan of pieces: those of 500,000 pictures, or of 20 billion raw rows.
_GROUP_BYTES = 64 * 2**20


def run(
    job: Job, pieces: Iterable[Piece], workers: tuple[int, int], *, address: str | None, num_gpus: float
) -> Generator[Record, None, None]:
    """What each piece became, in the order in which they were done; a piece of a lost worker is done again.

    workers: the fewest and the most actors. address: of the cluster, `auto` or ray://HOST:PORT; None for one of this
    process. num_gpus: of each actor. The output must be a place that all nodes see. Raises ScoringError.
    """
    groups = _groups(pieces)
    first = next(groups, None)
    if first is None:
        return
    # Ray tells of lost workers on stdout, where the summary goes.
    with contextlib.redirect_stdout(sys.stderr), _connected(address):
        for group in itertools.chain([first], groups):
            yield from _scored(job, group, workers, num_gpus)


def _scored(job: Job, texts: list[str], workers: tuple[int, int], num_gpus: float) -> Iterator[Record]:
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.exceptions import RayError

    DataContext.get_current().enable_progress_bars = False
    records = ray.data.from_items([{"piece": text} for text in texts], override_num_blocks=len(texts)).map_batches(
        Scorer,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=workers[0], max_size=workers[1]),
        num_gpus=num_gpus or None,
    )
    try:
        for row in records.iter_rows():
            yield Record(**json.loads(row["record"]))
    except RayError as error:
        cause = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        raise ScoringError(f"Ray: {cause}: run the same command again to go on") from error


def _groups(pieces: Iterable[Piece]) -> Iterator[list[str]]:
    """Pieces as JSON, as many at a time as are held in memory: Ray takes a list, and there may be millions of files."""
    group: list[str] = []
    size = 0
    for piece in pieces:
        group.append(piece.to_json())
        size += len(group[-1])
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A program that is connected to a cluster stays it, to the same one."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address and address != "auto":
            # Ray waits for minutes.
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), _REACH_SECONDS).close()
        # Ray tells its makers what it is used for, unless it is told otherwise:
        # https://docs.ray.io/en/latest/cluster/usage-stats.html
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ScoringUsageError(f"no Ray cluster at {address}: {reason} (--ray-address)") from error
    try:
        yield
    finally:
        ray.shutdown()
