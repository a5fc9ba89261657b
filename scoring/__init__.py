"""Scoring: millions of pictures to files of predictions, by a job that can be interrupted.

from scoring import score
manifest = score(["s3://bucket/pictures"], "scores", model="models/fashion_mnist/7")
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scoring.errors import ScoringError, ScoringUsageError

if TYPE_CHECKING:
    from client.transports.security import Security

__all__ = ["ScoringError", "ScoringUsageError", "score"]


def score(
    inputs: Sequence[str],
    output: str,
    *,
    model: str | None = None,
    servers: Sequence[str] = (),
    model_name: str = "fashion_mnist",
    model_version: int | None = None,
    timeout: float = 30.0,
    security: Security | None = None,
    image_column: str = "",
    label_column: str = "",
    preprocess: str = "auto",
    form: str = "parquet",
    engine: str = "local",
    workers: tuple[int, int] | None = None,
    ray_address: str | None = None,
    num_gpus: float = 0.0,
    progress: str = "none",
) -> dict[str, Any]:
    """Scores pictures into `output`, one part for each piece of the input; gives the manifest that is there too.

    inputs: paths or fsspec addresses: Parquet with a column of picture files or of 784 raw bytes, .npy uint8
        [N, 28, 28], IDX, .csv or .jsonl with a column of paths, pictures, directories and globs of them.
    output: a directory of its own; the same call goes on where an earlier one ended.
    model: a version's directory, or a model base path for the newest; it runs in this process.
    servers: instead of it, who is asked, in turn. model_name, model_version, timeout, security: of what is asked there.
    image_column, label_column: of pictures or paths, and of the right class ids or names.
    form: parquet, csv or jsonl. engine: local or ray. workers: the fewest and the most at a time.
    Raises ScoringUsageError for what cannot be; ScoringError, DeliveryError for what cannot be read or written,
    ServingError or ClientError when it ended early.
    """
    from scoring import cluster, job, local
    from scoring.models import Source
    from scoring.readers import Columns

    if bool(model) == bool(servers):
        raise ScoringUsageError("give what answers: a version's directory (--model), or servers (--server), not both")
    processors = os.cpu_count() or 1
    fewest, most = workers or (1, processors)
    if not 1 <= fewest <= most:
        raise ScoringUsageError(f"{fewest}:{most} workers cannot be: the fewest, at least 1, and the most")
    threads = most if engine == "local" else 1
    source = Source(model or "", tuple(servers), model_name, model_version, timeout, security, threads)
    run: job.Engine
    if engine == "ray":
        run = functools.partial(cluster.run, workers=(fewest, most), address=ray_address, num_gpus=num_gpus)
    else:
        run = functools.partial(local.run, threads=most)
    columns = Columns(image_column, preprocess)  # type: ignore[arg-type]
    return job.run(inputs, output, source, run, columns=columns, labels=label_column, form=form, progress=progress)
