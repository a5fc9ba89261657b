"""`fashion promote`: a version takes the place of `stable` when what speaks for it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from client.commands.evidence_text import evidence_text
from client.commands.options import Servers, data_dir_option, with_servers
from fashion_common.labels import CANARY, ROLLBACK, STABLE, read_labels
from fashion_common.layout import version_number
from fashion_common.running import running_servers
from fashion_common.thresholds import Thresholds
from rollout.commands.label import write_models_config
from rollout.commands.options import (
    dry_run_option,
    json_option,
    model_base_path_option,
    models_config_option,
    reason_option,
    wait_option,
)
from rollout.errors import RolloutError, RolloutUsageError

if TYPE_CHECKING:
    from fashion_common.evidence import Evidence

# How long is looked at what is usual before a version is promoted.
_BASELINE_SECONDS = 10.0
_EXAMPLES = """Example: fashion promote canary --evidence recordings/day.tfrecord

\b
fashion compare --test-set --json > evidence.json
fashion promote --evidence evidence.json --watch 300
"""


@click.command(epilog=_EXAMPLES)
@click.argument("candidate", default=CANARY, metavar="[LABEL|VERSION]")
@click.option(
    "--evidence",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="What to compare on: a recording, or what `fashion compare` takes; again for more. Or a file of what "
    "`fashion compare --json` printed of these two.  [default: the test set]",
)
@data_dir_option
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Refuse when fewer of the inputs get the same class.",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Refuse when the accuracy is that much lower, where labels are known.",
)
@click.option(
    "--max-latency-ratio",
    type=click.FloatRange(0, min_open=True),
    default=1.5,
    show_default=True,
    help="Refuse, and roll back in the watch, when it takes that many times as long.",
)
@click.option("--force", is_flag=True, help="Promote what these three refuse; the history records it.")
@click.option(
    "--watch",
    "watch_seconds",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="Watch errors and latency of the running servers for so long, and roll back when they break.",
)
@reason_option
@wait_option
@model_base_path_option
@models_config_option
@dry_run_option
@json_option
@with_servers
def promote(
    servers: Servers,
    *,
    candidate: str,
    inputs: tuple[str, ...],
    data_dir: Path | None,
    min_agreement: float,
    max_accuracy_drop: float,
    max_latency_ratio: float,
    force: bool,
    watch_seconds: float,
    reason: str,
    wait: float,
    model_base_path: Path,
    models_config: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare a version (default: canary) with stable; when it holds, make it stable, and watch it.

    Exit 0: promoted; 1: not, or rolled back, with the reason. Without --server the first server is asked that
    `fashion serve` runs here.
    """
    from rollout.move import versions_there, wait_until_loaded

    there = versions_there(model_base_path)
    named = read_labels(model_base_path).named(there)
    version = _version(candidate, named, there)
    stable = named[STABLE]
    result: dict[str, Any] = {
        "from": stable,
        "to": version,
        "promoted": False,
        "rolled_back": False,
        "dry_run": dry_run,
    }
    if version == stable:
        click.echo(json.dumps(result) if as_json else f"{STABLE} is {version} already")
        return
    # It may have been exported a moment ago.
    wait_until_loaded(model_base_path, version, wait)
    evidence = _evidence(servers, model_base_path, inputs, data_dir, stable, version)
    objections = Thresholds(min_agreement, max_accuracy_drop, max_latency_ratio).objections(evidence)
    result |= {"evidence": evidence.to_json(), "objections": objections, "forced": force and bool(objections)}
    if not as_json:
        click.echo(evidence_text(evidence))
    failure = ""
    if objections and not force:
        failure = f"Not promoted: {'; '.join(objections)} (--force promotes it all the same)"
    elif not dry_run:
        why = "; ".join(filter(None, [reason, *(f"forced: {objection}" for objection in objections)]))
        failure = _promote(
            model_base_path,
            models_config,
            version,
            why,
            # The history keeps the figures, not the pictures.
            {name: value for name, value in result["evidence"].items() if name != "examples"},
            wait=wait,
            watch_seconds=watch_seconds,
            max_latency_ratio=max_latency_ratio,
            result=result,
        )
    if as_json:
        click.echo(json.dumps(result, indent=2))
    elif dry_run and not failure:
        click.echo(f"{STABLE} would go from {stable} to {version}")
    elif not failure:
        click.echo(f"{STABLE} went from {stable} to {version}")
    if failure:
        raise RolloutError(failure)


def _promote(
    model_base_path: Path,
    models_config: Path | None,
    version: int,
    reason: str,
    evidence: dict[str, Any],
    *,
    wait: float,
    watch_seconds: float,
    max_latency_ratio: float,
    result: dict[str, Any],
) -> str:
    """Moves `stable` and watches; gives why it was rolled back, else nothing. result: gets what happened."""
    from rollout.move import move_labels, previous
    from rollout.watch import counts, usual, watch

    # Not since their start: that has what was compared, and every promotion before.
    before = usual(model_base_path, min(watch_seconds, _BASELINE_SECONDS))
    start = counts(running_servers(model_base_path))
    move_labels(
        model_base_path,
        {STABLE: version},
        action="promote",
        reason=reason,
        evidence=evidence,
        wait_seconds=wait,
        report=lambda line: click.echo(line, err=True),
    )
    result["promoted"] = True
    if models_config:
        write_models_config(models_config, model_base_path)
    try:
        click.echo(f"Watching for {watch_seconds:g} s; Ctrl-C ends the watch, and {STABLE} stays {version}", err=True)
        fault, seen = watch(
            model_base_path, STABLE, version, before, start, seconds=watch_seconds, max_latency_ratio=max_latency_ratio
        )
    except KeyboardInterrupt:
        click.echo(f"The watch ended early: {STABLE} stays {version}", err=True)
        return ""
    result["watch"] = {"requests": seen.requests, "errors": seen.errors, "mean_ms": seen.mean_ms, "fault": fault}
    click.echo(
        f"{seen.requests:.0f} requests, {seen.error_share:.1%} failed, {seen.mean_ms:.2f} ms on average", err=True
    )
    if not fault:
        return ""
    back = previous(model_base_path, STABLE)
    move_labels(model_base_path, {STABLE: back}, action=ROLLBACK, reason=fault, wait_seconds=wait)
    if models_config:
        write_models_config(models_config, model_base_path)
    result |= {"promoted": False, "rolled_back": True}
    return f"Rolled back to {back}: {fault}"


def _version(candidate: str, named: dict[str, int], there: Sequence[int]) -> int:
    """The candidate's number. Raises RolloutUsageError for a label or a version that is not there."""
    number = version_number(candidate)
    version = named.get(candidate) if number is None else number
    if version is None:
        raise RolloutUsageError(f"{candidate} is no label: there are {', '.join(sorted(named))}, or name a version")
    if version not in there:
        raise RolloutUsageError(f"version {version} is not there, only {', '.join(map(str, there))}")
    return version


def _evidence(
    servers: Servers,
    model_base_path: Path,
    inputs: tuple[str, ...],
    data_dir: Path | None,
    stable: int,
    version: int,
) -> Evidence:
    """What was given, or a comparison now. Raises RolloutUsageError for evidence of other versions, ClientError."""
    from client.commands.compare import compared
    from rollout.evidence import given_evidence

    if len(inputs) == 1 and (evidence := given_evidence(Path(inputs[0]), stable, version)):
        return evidence
    running = running_servers(model_base_path)
    if not servers.urls and running:
        # Over REST, whose address is recorded; certificates and tokens are the options'.
        servers = replace(servers, urls=(running[0].url.partition("/v1/")[0],), model_name=running[0].model_name)
    return compared(servers, inputs, str(stable), str(version), data_dir=data_dir).evidence
