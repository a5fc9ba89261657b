"""The command `fashion train`: options to configuration to one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from training.config import APIS, DATASETS, LOOPS, MODELS, RECIPES, SCHEDULES, resolve

Command = Callable[..., None]


def json_option(command: Command) -> Command:
    """`--json`: the result as one JSON object on stdout, nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def _setting(name: str, kind: Any, text: str) -> Callable[[Command], Command]:
    """An option for one field of TrainingConfig; left out, the recipe's value holds."""
    return click.option(f"--{name}", type=kind, default=None, help=text)


def _settings(command: Command) -> Command:
    for decorate in reversed(
        (
            _setting("dataset", click.Choice(DATASETS), "The images to train on; synthetic are drawn, for trying out."),
            _setting("model", click.Choice(MODELS), "perceptron (7,850 parameters) or mlp (101,770)."),
            _setting("api", click.Choice(APIS), "The Keras form that the model is built in."),
            _setting("loop", click.Choice(LOOPS), "keras.Model.fit, or our own loop over arrays in memory."),
            _setting("epochs", int, "Times through the training images."),
            _setting("batch-size", int, "Images in one optimizer step."),
            _setting("learning-rate", float, "The optimizer's (highest) learning rate."),
            _setting("schedule", click.Choice(SCHEDULES), "How the learning rate goes down."),
            _setting("warmup", float, "Share of all steps in which a cosine schedule's rate rises first."),
            _setting("steps-per-execution", int, "Optimizer steps in one call into the graph."),
            click.option("--jit-compile/--no-jit-compile", default=None, help="Compile the steps with XLA."),
            _setting("seed", int, "The seed of every random choice."),
        )
    ):
        command = decorate(command)
    return command


@click.command(epilog="Example: fashion train --recipe fast --epochs 20 --run-dir runs/mine")
@click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default="fast", show_default=True, help="The settings to start from."
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Where the run goes.  [default: runs/<time>-<recipe>]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Directory with the four original files.  [default: $FASHION_MNIST_DIR, data/fashion-mnist; else downloaded]",
)
@_settings
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@json_option
def train(
    recipe: str, run_dir: Path | None, data_dir: Path | None, quiet: bool, as_json: bool, **overrides: Any
) -> None:
    """Train the model on Fashion-MNIST into a run directory.

    A recipe settles everything; each option below changes one setting of it.
    """
    config = resolve(recipe, **overrides)
    from training import runs
    from training.train import metrics
    from training.train import train as run_training

    result = run_training(
        config,
        run_dir or runs.default_run_dir(recipe),
        data_dir=data_dir,
        progress=not quiet,
        report=None if quiet else lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps({"run_dir": str(result.run_dir), "recipe": recipe, **metrics(result)}))
        return
    click.echo(
        f"{result.run_dir}: validation accuracy {result.validation.accuracy:.4f}, "
        f"test accuracy {result.test.accuracy:.4f}, fit {result.fit_seconds:.1f} s"
    )
