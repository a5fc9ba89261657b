"""The console command `fashion`: a group that imports a command's module only when the command is called.

It is also the one place where errors become a line on stderr and an exit code: 0, 1 (it failed), 2 (asked wrongly).
"""

from __future__ import annotations

import importlib
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from client.errors import ImageWarning
from client.tracing import take_environment
from fashion_common import telemetry
from fashion_common.errors import EXIT_USAGE, FashionError
from fashion_common.installation import install_command
from fashion_common.native_stderr import native_stderr_silenced

# How long a command waits at its end for a collector that does not answer.
_TELEMETRY_SECONDS = 2.0


class _Command(NamedTuple):
    module: str
    extra: str | None
    help: str


_COMMANDS = {
    "train": _Command("training.commands.train", "training", "Train the model on Fashion-MNIST into a run directory."),
    "export": _Command("training.commands.export", "training", "Export a run as the next version of the served model."),
    "versions": _Command("training.commands.versions", "training", "List the exported versions of the served model."),
    "verify": _Command("delivery.commands.verify", "signing", "Hold versions to their signatures."),
    "pull": _Command("delivery.commands.pull", "pull", "Fetch versions from any address to this machine."),
    "serve": _Command("serving.launch.cli", "embedded", "Serve the newest version over gRPC and REST."),
    "token": _Command("client.commands.token", None, "Make a token for a client of the embedded server."),
    "predict": _Command("client.commands.predict", None, "Print the class names of images."),
    "web": _Command("client.commands.web", "web", "Show what a served model answers, as a page."),
    "call": _Command("client.commands.call", None, "Run a signature of any model on inputs of your own."),
    "status": _Command("client.commands.status", None, "Print the state of the served model's versions."),
    "metadata": _Command("client.commands.metadata", None, "Print the served model's signatures."),
    "evaluate": _Command("client.commands.evaluate", None, "Measure a live server's accuracy on the test set."),
    "bench": _Command("client.commands.bench", None, "Measure a live server's throughput and latency."),
    "score": _Command("scoring.commands.score", "score", "Score many pictures into files of predictions."),
    "replay": _Command("client.commands.replay", None, "Send recorded requests to a live server again."),
    "compare": _Command("client.commands.compare", None, "Put two versions side by side on the same inputs."),
    "label": _Command("rollout.commands.label", None, "List which version each label names, or move labels."),
    "promote": _Command("rollout.commands.promote", None, "Make a version stable when what speaks for it holds."),
    "rollback": _Command("rollout.commands.rollback", None, "Return a label to the version that it named before."),
    "explain": _Command("client.commands.explain", None, "Show what the model saw of a picture."),
    "doctor": _Command("client.commands.doctor", None, "Check a server, each failure with its fix."),
}
# This project's packages; any other that cannot be imported belongs to an extra.
_PACKAGES = frozenset({"delivery", "rollout", "scoring", "training", "serving", "client", "fashion_common"})


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on use, by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands in the order of their use: train, export, serve, predict."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the command's module; every command also takes `--verbose`.

        An option has the variable of its own name, FASHION_PREDICT_FORMAT; click would take the parameter's.
        """
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name].module), cmd_name)
        if not any(parameter.name == "verbose" for parameter in command.params):
            text = "Show what the libraries print, and tracebacks."
            verbose = click.Option(["--verbose"], is_flag=True, expose_value=False, callback=_set_verbose, help=text)
            command.params.append(verbose)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.envvar:
                option = max(parameter.opts, key=len).lstrip("-")
                parameter.envvar = f"FASHION_{cmd_name}_{option}".upper().replace("-", "_")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; our own errors, a missing extra and unforeseen errors all become click's one line.

        A pipe that its reader closed (`| head`) is left to click, which ends the program without a word.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.find_root().meta.get("verbose"):
                traceback.print_exc()
            raise _one_line(error, ctx.invoked_subcommand) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Lists the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in _COMMANDS.items()])


def _one_line(error: Exception, command: str | None) -> click.ClickException:
    if isinstance(error, FashionError):
        return (click.UsageError if error.exit_code == EXIT_USAGE else click.ClickException)(str(error))
    extra = _COMMANDS[command].extra if command in _COMMANDS else None
    if isinstance(error, ModuleNotFoundError) and extra and (error.name or "").partition(".")[0] not in _PACKAGES:
        return click.ClickException(
            f"fashion {command} needs the extra [{extra}] ({error.name} is not installed): {install_command(extra)}"
        )
    return click.ClickException(f"unforeseen {type(error).__name__}: {error} (--verbose shows where)")


def _set_verbose(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    root = ctx.find_root()
    root.meta["verbose"] = value
    if not value:
        root.with_resource(native_stderr_silenced())
    root.with_resource(_picture_warnings())
    if ctx.info_name != "serve":
        # The server that it starts has its own.
        root.with_resource(_telemetry())


@contextmanager
def _telemetry() -> Iterator[None]:
    """Sends spans of what a command asks servers, where the environment asks for it."""
    try:
        provider = telemetry.start("fashion", os.environ)
    except telemetry.TelemetryError as error:
        click.echo(f"Warning: {error}", err=True)
        provider = None
    if provider is None:
        yield
        return
    from opentelemetry.trace import set_tracer_provider

    set_tracer_provider(provider)
    try:
        yield
    finally:
        telemetry.stop(provider, _TELEMETRY_SECONDS)


@contextmanager
def _picture_warnings() -> Iterator[None]:
    """Prints each warning of a picture as a line on stderr; others as ever."""
    show = warnings.showwarning

    def show_line(message: Warning | str, category: type[Warning], *place: Any, **names: Any) -> None:
        if issubclass(category, ImageWarning):
            click.echo(f"Warning: {message}", err=True)
        else:
            show(message, category, *place, **names)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ImageWarning)
        warnings.showwarning = show_line
        yield


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: fashion train && fashion export && fashion serve",
)
@click.version_option(package_name="fashion-mnist-serving", prog_name="fashion")
def fashion() -> None:
    """Train a Keras model on Fashion-MNIST, serve it with TensorFlow Serving, and ask it for class names."""


def main() -> None:
    """Runs `fashion` with the process's arguments and exits."""
    if "_FASHION_COMPLETE" in os.environ:
        _keep_fish_descriptions_whole()
    take_environment(os.environ)
    fashion(prog_name="fashion")


def _keep_fish_descriptions_whole() -> None:
    # Only shells need it. Click's script cuts an answer at every comma and keeps the first two pieces.
    from click.shell_completion import FishComplete

    FishComplete.source_template = FishComplete.source_template.replace("string split ", "string split --max 1 ")


if __name__ == "__main__":
    main()
