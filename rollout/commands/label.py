"""`fashion label`: lists the labels, or moves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fashion_common.errors import LabelsError
from fashion_common.labels import CANARY, STABLE, Labels, check_label, read_labels
from fashion_common.layout import version_number
from fashion_common.running import running_servers
from rollout.commands.options import (
    dry_run_option,
    json_option,
    model_base_path_option,
    models_config_option,
    reason_option,
    wait_option,
)
from rollout.errors import RolloutUsageError

_EXAMPLES = """Example: fashion label stable=7

\b
fashion label                              list the labels
fashion label canary=                      canary is the newest version again
fashion label stable=7 --models-config serving/config/models.config
kubectl patch configmap NAME --patch "$(fashion label --configmap)"
"""


def _versions(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, int | None]:
    versions: dict[str, int | None] = {}
    for text in values:
        label, separator, number = text.partition("=")
        try:
            check_label(label)
        except LabelsError as error:
            raise click.BadParameter(str(error)) from error
        version = version_number(number)
        if not separator or (number and version is None):
            raise click.BadParameter(f"{text}: expected LABEL=VERSION, such as stable=3")
        versions[label] = version
    return versions


@click.command(epilog=_EXAMPLES)
@click.argument("versions", nargs=-1, metavar="[LABEL=VERSION]...", callback=_versions)
@model_base_path_option
@reason_option
@wait_option
@click.option("--history", is_flag=True, help="List every move, the oldest first.")
@models_config_option
@click.option("--configmap", is_flag=True, help="Print the labels as a patch for the ConfigMap of docker/kubernetes.")
@dry_run_option
@json_option
def label(
    *,
    versions: dict[str, int | None],
    model_base_path: Path,
    reason: str,
    wait: float,
    history: bool,
    models_config: Path | None,
    configmap: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List which version each label names, or move labels: a name before =, the version after it.

    A label is moved when every server that `fashion serve` runs on this machine answers by it; else it is put back.
    Without a version, stable is the newest but one, and canary the newest; another label is removed.
    """
    if history and versions:
        raise RolloutUsageError("--history only lists: move labels without it")
    if not versions and not models_config:
        _list(model_base_path, history=history, configmap=configmap, as_json=as_json)
        return
    apply(
        model_base_path,
        versions,
        action="label",
        reason=reason,
        wait=wait,
        models_config=models_config,
        dry_run=dry_run,
        as_json=as_json,
    )
    if configmap:
        _list(model_base_path, configmap=True)


def apply(
    model_base_path: Path,
    versions: Mapping[str, int | None],
    *,
    action: str,
    reason: str,
    wait: float,
    models_config: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Moves labels and says so; writes them into models_config too. Raises RolloutError, LabelsError."""
    from rollout.move import changed, move_labels, versions_there

    labels, there = read_labels(model_base_path), versions_there(model_base_path)
    before = labels.named(there)
    if dry_run:
        after = Labels(labels.after(changed(labels, versions, model_base_path))).named(there)
    else:
        move_labels(
            model_base_path,
            versions,
            action=action,
            reason=reason,
            wait_seconds=wait,
            report=lambda line: click.echo(line, err=True),
        )
        after = read_labels(model_base_path).named(there)
        if models_config:
            write_models_config(models_config, model_base_path)
    if as_json:
        moved = [{"label": name, "before": before.get(name), "after": after.get(name)} for name in versions]
        click.echo(json.dumps({"dry_run": dry_run, "labels": moved}, indent=2))
        return
    for name in versions:
        click.echo(_line(name, before.get(name), after.get(name), dry_run=dry_run))


def _line(name: str, before: int | None, after: int | None, *, dry_run: bool) -> str:
    if before == after:
        return f"{name} is {_number(after)} already"
    return f"{name} {'would go' if dry_run else 'went'} from {_number(before)} to {_number(after)}"


def _number(version: int | None) -> str:
    return "none" if version is None else str(version)


def _list(model_base_path: Path, *, history: bool = False, configmap: bool = False, as_json: bool = False) -> None:
    from rollout.move import versions_there

    labels = read_labels(model_base_path)
    there = versions_there(model_base_path)
    if configmap:
        click.echo(_patch(labels.named(there), there), nl=False)
    elif as_json:
        click.echo(json.dumps(_facts(model_base_path, labels, there), indent=2))
    elif history:
        for move in labels.history:
            reason = move.reason and f": {move.reason}"
            change = f"{move.label} {_number(move.before)} -> {_number(move.after)}"
            click.echo(f"{move.time}  {change}  {move.action}{reason}")
    else:
        for name, facts in _facts(model_base_path, labels, there)["labels"].items():
            since = f"since {facts['since']} by {facts['action']}" if facts["since"] else "by default"
            servers = "".join(f"  {url}: {_number(version)}" for url, version in facts["servers"].items())
            click.echo(f"{name}  {facts['version']}  {since}{servers}")


def _facts(model_base_path: Path, labels: Labels, there: list[int]) -> dict[str, Any]:
    servers = running_servers(model_base_path)
    facts = {}
    for name, version in sorted(labels.named(there).items(), key=lambda item: (item[0] not in (STABLE, CANARY), item)):
        move = labels.last_move(name) if name in labels.moved else None
        facts[name] = {
            "version": version,
            "since": move and move.time,
            "action": move and move.action,
            "servers": {server.url: server.version_of(name) for server in servers},
        }
    return {"labels": facts, "history": [move._asdict() for move in labels.history]}


def write_models_config(models_config: Path, model_base_path: Path) -> None:
    """Writes the labels into a models.config that something else than `fashion serve` reads, whole, and says so."""
    from fashion_common.files import write_whole
    from rollout.move import versions_there
    from serving.launch.models_config import fixed

    there = versions_there(model_base_path)
    text = fixed(models_config.read_text(encoding="utf-8"), read_labels(model_base_path).named(there), there)
    write_whole(models_config, text)
    click.echo(
        f"{models_config} has the labels: its server looks at it by --model_config_file_poll_wait_seconds", err=True
    )


def _patch(labels: Mapping[str, int], there: list[int]) -> str:
    """A merge patch of the ConfigMap, in YAML."""
    from fashion_common.installation import MODELS_FILE
    from serving.apis import CONFIG_DIR
    from serving.launch.models_config import fixed

    text = fixed((CONFIG_DIR / MODELS_FILE).read_text(encoding="utf-8"), labels, there)
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return f"data:\n  {MODELS_FILE}: |\n{lines}"
