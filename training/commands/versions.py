"""The command `fashion versions`: the exported versions as a table or as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.commands.options import json_option, model_base_path_option, print_json

if TYPE_CHECKING:
    from training.export.versions import Version

_HEADER = ("version", "accuracy", "recipe", "exported", "size", "self-test", "runtimes", "labels", "promoted", "loaded")


@click.command(epilog="Example: fashion versions --json")
@model_base_path_option
@json_option
def versions(*, model_base_path: Path, as_json: bool) -> None:
    """List the exported versions, newest first: their facts, labels, and which of this machine's servers answer."""
    from training.export.versions import list_versions

    exported = list_versions(model_base_path)
    if as_json:
        print_json([dataclasses.asdict(version) for version in exported])
        return
    rows = [_HEADER, *map(_cells, exported)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(version: Version) -> tuple[str, ...]:
    return (
        str(version.version),
        "-" if version.accuracy is None else f"{version.accuracy:.4f}",
        version.recipe or "-",
        _minute(version.exported_at),
        f"{version.size / 1000:.0f} kB",
        version.self_test,
        ", ".join(version.runtimes) or "-",
        ", ".join(version.labels) or "-",
        _minute(version.promoted_at),
        ", ".join(version.loaded) or "-",
    )


def _minute(time: str | None) -> str:
    return (time or "-").replace("T", " ")[:16]
