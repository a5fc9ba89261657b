"""`fashion evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import with_connection

if TYPE_CHECKING:
    from client.commands.evaluation import Evaluation
    from client.connection import Connection


@click.command(epilog="Example: fashion evaluate --data-dir data/fashion-mnist --server http://127.0.0.1:8501")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the original t10k files lie.  [default: $FASHION_MNIST_DIR, else data/fashion-mnist]",
)
@click.option("--signature", "signature_name", help="The signature to run.  [default: serving_default]")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images a request.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Requests in flight.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_connection
def evaluate(
    connection: Connection,
    data_dir: Path | None,
    signature_name: str | None,
    limit: int | None,
    batch_size: int,
    concurrency: int,
    as_json: bool,
) -> None:
    """Ask a live server for the whole test set: accuracy, precision and recall by class, confusion matrix."""
    from itertools import islice

    from client.commands.evaluation import Evaluation, test_set
    from client.pipeline import answers

    found, labels = test_set(data_dir, batch_size)
    told = answers(connection, found, signature_name=signature_name, batch_size=batch_size, concurrency=concurrency)
    pairs = []
    for label, answer in zip(labels, islice(told, limit), strict=limit is None):
        if answer.error or not answer.prediction:
            raise answer.error or AssertionError(answer.name)
        pairs.append((label, answer.prediction.class_id))
    evaluation = Evaluation.of(pairs)
    click.echo(_as_json(evaluation) if as_json else _as_text(evaluation))


def _as_json(evaluation: Evaluation) -> str:
    return json.dumps(
        {
            "images": evaluation.images,
            "accuracy": evaluation.accuracy,
            "classes": evaluation.per_class(),
            "confusion": evaluation.confusion,
        },
        indent=2,
    )


def _as_text(evaluation: Evaluation) -> str:
    lines = [f"accuracy {evaluation.accuracy:.4f} on {evaluation.images} images", ""]
    lines.append(f"{'class':<12} {'precision':>9} {'recall':>7}   answered as 0 to 9")
    for label, (row, counts) in enumerate(zip(evaluation.per_class(), evaluation.confusion, strict=True)):
        cells = " ".join(f"{count:>5}" for count in counts)
        lines.append(f"{label} {row['class_name']:<11} {row['precision']:>8.4f} {row['recall']:>7.4f}   {cells}")
    return "\n".join(lines)
