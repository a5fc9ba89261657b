"""The command `fashion train`: options to configuration to one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from training.config import CHOICES, RECIPES, TrainingConfig, resolve
from training.errors import TrainingUsageError

Command = Callable[..., None]


def json_option(command: Command) -> Command:
    """`--json`: the result as one JSON object on stdout, nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


_HELP = {
    "dataset": "The images to train on; synthetic ones are drawn, for trying out.",
    "model": "perceptron (7,850 parameters) or mlp (101,770).",
    "api": "The Keras form that the model is built in.",
    "loop": "keras.Model.fit, or our own loop over arrays in memory.",
    "epochs": "Times through the training images.",
    "batch_size": "Images in one optimizer step.",
    "learning_rate": "The (highest) learning rate.",
    "schedule": "How the learning rate goes: a tenth less each epoch, or along a cosine, step by step.",
    "warmup": "Share of all steps in which a cosine schedule first rises.",
    "weight_decay": "AdamW's decay of the kernels.",
    "dropout": "Share of the hidden units left out in each step.",
    "batch_norm": "Normalise the hidden units while training; folded into the weights afterwards.",
    "shift": "Share of the images moved by up to a pixel.",
    "teacher": "Train a larger network first and learn from it.",
    "teacher_weight": "Share of the teacher's probabilities in what is learned.",
    "steps_per_execution": "Optimizer steps in one call into the graph.",
    "jit_compile": "Compile the steps with XLA.",
    "checkpoint": "Keep the best epoch by validation accuracy (best.keras); the run's model is that one.",
    "early_stopping": "Stop after so many epochs without a better one; 0 never.",
    "strategy": "tf.distribute: all devices of this machine, or the workers of TF_CONFIG.",
    "seed": "The seed of every random choice.",
}


def _settings(command: Command) -> Command:
    """One option for each field of TrainingConfig; left out, the recipe's value holds."""
    kinds = {"int": int, "float": float, "str": str}
    for field in reversed(fields(TrainingConfig)):
        if field.name == "recipe":
            continue
        flag, text = f"--{field.name.replace('_', '-')}", _HELP[field.name]
        if field.type == "bool":
            option = click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text)
        else:
            choices = CHOICES.get(field.name)
            kind = click.Choice(choices) if choices else kinds[str(field.type)]
            option = click.option(flag, field.name, type=kind, default=None, help=text)
        command = option(command)
    return command


@click.command(
    epilog="Example: fashion train --recipe fast --epochs 20 --run-dir runs/mine",
)
@click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default=None, help="The settings to start from.  [default: fast]"
)
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
    default=5.0,
    show_default=True,
    help="Work that a crash may cost.",
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

    A recipe settles everything; each of its settings can be changed by an option.
    """
    config = None if resume else resolve(recipe or "fast", **overrides)
    from training import runs
    from training import train as training
    from training.fit.stages import Watch

    watch = Watch(
        progress=not quiet,
        report=(lambda _: None) if quiet else lambda text: click.echo(text, err=True),
        tensorboard=tensorboard,
        checkpoint_seconds=checkpoint_seconds,
        pictures=pictures,
    )
    if config is None:
        assert resume is not None
        _refuse_changes(runs.unfinished_config(resume), resume, run_dir, {"recipe": recipe, **overrides})
        result = training.resume(resume, data_dir=data_dir, watch=watch)
    else:
        result = training.train(config, run_dir or runs.default_run_dir(config.recipe), data_dir=data_dir, watch=watch)
    figures = training.metrics(result)
    if as_json:
        click.echo(json.dumps({"run_dir": str(result.run_dir), "recipe": result.config.recipe, **figures}))
        return
    click.echo(
        f"{result.run_dir}: validation accuracy {result.validation.accuracy:.4f}, "
        f"test accuracy {result.test.accuracy:.4f}, fit {result.fit_seconds:.1f} s"
    )


def _refuse_changes(config: TrainingConfig, resumed: Path, run_dir: Path | None, overrides: dict[str, Any]) -> None:
    if run_dir is not None:
        raise TrainingUsageError(f"--run-dir {run_dir} does not go with --resume {resumed}: the run stays where it is")
    for name, value in overrides.items():
        begun = getattr(config, name)
        if value is not None and value != begun:
            raise TrainingUsageError(
                f"{resumed} was begun with {name} {begun}, not {value}: leave it out or begin a new run"
            )
