"""`fashion score`: many pictures to files of predictions."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from client.commands.options import Servers, with_servers
from client.types import Preprocess
from fashion_common.errors import EXIT_FAILED, EXIT_USAGE, FashionError

_EXAMPLES = """Example: fashion score pictures.parquet --model models/fashion_mnist --output scores

\b
fashion score s3://bucket/photos --server grpc://a:8500 --server grpc://b:8500 --output scores
fashion score 'day-*.parquet' --model models/fashion_mnist/7 --output scores --engine ray --ray-address auto
"""


class _Workers(click.ParamType[tuple[int, int]]):
    """MIN:MAX, or one number for both."""

    name = "MIN:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        fewest, _, most = str(value).partition(":")
        if not fewest.isdecimal() or not (most or fewest).isdecimal():
            self.fail(f"{value!r}: expected MIN:MAX, such as 1:8", param, ctx)
        return int(fewest), int(most or fewest)


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--output", required=True, metavar="DIR", help="A directory of its own; run again, it is gone on with.")
@click.option("--model", metavar="DIR", help="A version's directory, or a model base path: runs in this process.")
@click.option("--model-version", type=click.IntRange(0), help="The version to ask servers for.  [default: the newest]")
@click.option("--image-column", default="", metavar="NAME", help="The column of pictures, or of paths in a list.")
@click.option("--label-column", default="", metavar="NAME", help="The column of right classes: gives the accuracy.")
@click.option("--preprocess", type=click.Choice(get_args(Preprocess)), default="auto", show_default=True)
@click.option("--format", "form", type=click.Choice(["parquet", "csv", "jsonl"]), default="parquet", show_default=True)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--workers", type=_Workers(), help="Pieces at a time, the fewest and the most.  [default: 1:CPUs]")
@click.option("--ray-address", metavar="auto|ray://HOST:PORT", help="The cluster.  [default: one for this job]")
@click.option("--num-gpus", type=click.FloatRange(0), default=0, help="GPUs of each of Ray's workers.")
@click.option(
    "--progress", type=click.Choice(["bar", "json", "none"]), default="bar", show_default=True, help="On stderr."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@with_servers
def score(
    servers: Servers,
    inputs: tuple[str, ...],
    output: str,
    model: str | None,
    model_version: int | None,
    image_column: str,
    label_column: str,
    preprocess: Preprocess,
    form: str,
    engine: str,
    workers: tuple[int, int] | None,
    ray_address: str | None,
    num_gpus: float,
    progress: str,
    as_json: bool,
) -> None:
    """Score pictures into files: class, probabilities, and why a row has none. What is done stays done.

    INPUT is Parquet, .npy, IDX, .csv or .jsonl of paths, a picture, a directory, a glob, here or at any address that
    fsspec knows. Exit code 1 when the job ended early, or a file could not be read.
    """
    import scoring

    try:
        manifest = scoring.score(
            inputs,
            output,
            model=model,
            servers=servers.urls,
            model_name=servers.model_name,
            model_version=model_version,
            timeout=servers.timeout,
            security=servers.security,
            image_column=image_column,
            label_column=label_column,
            preprocess=preprocess,
            form=form,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            num_gpus=num_gpus,
            progress=progress,
        )
    except (FashionError, KeyboardInterrupt) as error:
        if not isinstance(error, FashionError) or error.exit_code != EXIT_USAGE:
            click.echo(f"Ended early: the same command goes on with what is in {output}", err=True)
        raise
    click.echo(json.dumps(manifest, indent=2) if as_json else _told(manifest, output))
    if manifest["unreadable_files"]:
        click.get_current_context().exit(EXIT_FAILED)


def _told(manifest: dict[str, Any], output: str) -> str:
    lines = [
        f"{manifest['rows']:,} rows in {manifest['parts']} parts in {output}, {manifest['rows_per_second']:,.0f}/s"
    ]
    if manifest["errors"]:
        files = manifest["unreadable_files"]
        also = f", {files} of them files that cannot be read" if files else ""
        lines.append(f"{manifest['errors']:,} errors{also}: {output.rstrip('/')}/_errors.parquet")
    if manifest["accuracy"] is not None:
        lines.append(f"accuracy {manifest['accuracy']:.4f} of {manifest['labelled']:,} labelled rows")
    return "\n".join(lines)
