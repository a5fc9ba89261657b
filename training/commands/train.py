"""The command `fashion train`: options to configuration to one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fashion_common.imports import without_collections
from training.commands.options import json_option
from training.config import CHECKPOINT_SECONDS, SETTINGS
from training.errors import TrainingUsageError
from training.recipes import RECIPES, resolve

Command = Callable[..., None]


def _settings(command: Command) -> Command:
    """One option for each setting but the recipe; left out, the recipe's value holds."""
    for name, setting in reversed(SETTINGS.items()):
        if name == "recipe":
            continue
        flag, rule, text = f"--{name.replace('_', '-')}", setting.rule, setting.help
        if setting.kind is bool:
            option = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
        elif isinstance(rule, tuple):
            option = click.option(flag, name, type=click.Choice(rule), help=text)
        else:
            option = click.option(flag, name, type=setting.kind, help=f"{text}  [{rule}]" if rule else text)
        command = option(command)
    return command


@click.command(epilog="Example: fashion train --recipe fast --epochs 20 --run-dir runs/mine")
@click.option("--recipe", type=click.Choice(list(RECIPES)), help="The settings to start from.  [default: fast]")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run goes.  [default: runs/<time>-<recipe>]")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN_DIR", help="Go on with an interrupted run.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory with the four original files.  [default: $FASHION_MNIST_DIR, data/fashion-mnist; else downloaded]",
)
@_settings
@click.option("--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Write logs for TensorBoard there.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=CHECKPOINT_SECONDS,
    show_default=True,
    help="Seconds of the fit that a crash may cost.",
)
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Draw the figures and report.html.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@json_option
def train(
    *,
    recipe: str | None,
    run_dir: Path | None,
    resume: Path | None,
    data_dir: Path | None,
    tensorboard: Path | None,
    checkpoint_seconds: float,
    pictures: bool,
    quiet: bool,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Train the model on Fashion-MNIST into a run directory.

    A recipe gives every setting; an option changes one of them.
    """
    if resume and run_dir:
        raise TrainingUsageError(f"--run-dir {run_dir} does not go with --resume {resume}: the run stays where it is")
    config = None if resume else resolve(recipe or "fast", **overrides)
    with without_collections():
        from training import runs
        from training import train as training
        from training.fit.stages import Watch

    watch = Watch(
        progress=not quiet,
        tensorboard=tensorboard,
        checkpoint_seconds=checkpoint_seconds,
        pictures=pictures,
    )
    if config is None:
        assert resume is not None
        original = runs.unfinished_config(resume).to_json()
        for name, value in {"recipe": recipe, **overrides}.items():
            if value is not None and value != original[name]:
                raise TrainingUsageError(
                    f"{resume} was begun with {name} {original[name]}, not {value}: leave it out or begin a new run"
                )
        result = training.resume(resume, data_dir=data_dir, watch=watch)
    else:
        result = training.train(config, run_dir or runs.default_run_dir(config.recipe), data_dir=data_dir, watch=watch)
    metrics = training.metrics(result)
    if as_json:
        click.echo(json.dumps({"run_dir": str(result.run_dir), "recipe": result.config.recipe, **metrics}))
        return
    click.echo(
        f"{result.run_dir}: validation accuracy {result.validation.accuracy:.4f}, "
        f"test accuracy {result.test.accuracy:.4f}, fit {result.fit_seconds:.1f} s"
    )
