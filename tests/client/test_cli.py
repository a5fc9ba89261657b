"""The root command: lazy, quick, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from client.cli import _COMMANDS, fashion
from client.errors import ClientError, ClientUsageError, ImageWarning, server_error
from client.transports.fake import FakeTransport
from client.types import Call, Output
from fashion_common import telemetry
from tests.support.client_commands import answering

FASHION = Path(sys.executable).with_name("fashion")
# Runs a command as `fashion` does and then names the heavy modules that it has imported.
_IMPORTED = """
import sys
from client.cli import fashion
try:
    fashion(sys.argv[1:], prog_name="fashion")
except SystemExit:
    pass
print(sorted({"tensorflow", "keras", "numpy", "grpc", "httpx", "PIL"} & sys.modules.keys()), file=sys.stderr)
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(FASHION), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_the_commands_in_the_order_of_their_use() -> None:
    """Each with one line of help, taken from the table of commands."""
    result = CliRunner().invoke(fashion, ["--help"])
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.split("Commands:\n")[1].split("\n\n")[0].splitlines()]
    assert names == [
        "train",
        "export",
        "versions",
        "verify",
        "pull",
        "serve",
        "token",
        "predict",
        "web",
        "call",
        "status",
        "metadata",
        "evaluate",
        "bench",
        "score",
        "replay",
        "compare",
        "label",
        "promote",
        "rollback",
        "explain",
        "doctor",
    ]


@pytest.mark.alone
def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    """Under 0.3 s as a whole process (the best of nine: the machine may be busy), without numpy or gRPC."""
    process = subprocess.run(
        [sys.executable, "-c", _IMPORTED, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stderr == "[]\n"
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        assert _run("--help").returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_has_help_with_an_example_and_no_tensorflow(command: str) -> None:
    """Help must not wait for TensorFlow's import."""
    process = subprocess.run(
        [sys.executable, "-c", _IMPORTED, command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stderr == "[]\n"
    assert f"Usage: fashion {command} " in process.stdout
    assert f"Example: fashion {command}" in process.stdout
    assert "--verbose" in process.stdout


def test_an_unknown_command_is_asked_wrongly() -> None:
    """Exit code 2 and click's own words."""
    process = _run("sing")
    assert (process.returncode, process.stdout) == (2, "")
    assert "No such command 'sing'" in process.stderr


@pytest.mark.parametrize(
    ("command", "extra", "module"),
    [
        (["train", "--dataset", "synthetic"], "training", "tensorflow"),
        (["export"], "training", "tensorflow"),
    ],
)
def test_a_missing_extra_says_what_to_install(command: list[str], extra: str, module: str) -> None:
    """A module that is None in sys.modules fails to import just as one that is not installed."""
    blocked = f"import sys; sys.modules[{module!r}] = None\n{_IMPORTED}"
    process = subprocess.run(
        [sys.executable, "-c", blocked, *command], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"pip install -e '{Path.cwd()}[{extra}]'" in process.stderr.splitlines()[0]
    assert process.stdout == ""


def test_an_unforeseen_error_is_one_line_and_verbose_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours must not bury the user in a traceback."""

    def broken(*_args: object, **_options: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("client.connection.connect", broken)
    result = CliRunner().invoke(fashion, ["status"])
    assert (result.exit_code, result.output) == (1, "Error: unforeseen KeyError: 'oops' (--verbose shows where)\n")
    result = CliRunner().invoke(fashion, ["status", "--verbose"])
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.output


def test_wrong_options_of_predict_exit_with_2_and_one_line(tmp_path: Path) -> None:
    """A missing file, a bad address, two ways to name a version, a deadline of zero."""
    missing = str(tmp_path / "missing.png")
    for arguments, why in (
        (["predict", missing], f"Error: {missing}: no such file\n"),
        (["status", "--server", "nowhere"], "Error: 'nowhere' is not a server address: expected "),
        (["status", "--model-version", "1", "--version-label", "stable"], "exclude each other: give one\n"),
        (["predict", "--json", "--format", "csv", missing], "--json and --format csv contradict each other: give one"),
        (["predict", "--show", "--json", missing], "--show draws, --format and --json print: give one"),
        (
            ["status", "--tls-server-name", "x", "--server", "grpc://h"],
            "Error: grpc://h:8500 has no TLS, which --tls-ca",
        ),
        (["status", "--header", "a b=c"], "Error: a header is a lower-case name of letters"),
        (["status", "--timeout", "0"], "Error: a deadline of 0 s cannot be met: --timeout takes seconds above 0\n"),
    ):
        result = CliRunner().invoke(fashion, arguments)
        assert result.exit_code == 2, arguments
        assert why in result.output
        assert result.stdout == ""


def test_environment_variables_stand_for_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared options have one name for all commands, the others their command's: FASHION_STATUS_WAIT."""
    monkeypatch.setenv("FASHION_SERVER", "nowhere")
    result = CliRunner().invoke(fashion, ["status"])
    assert "'nowhere' is not a server address" in result.output
    monkeypatch.setenv("FASHION_STATUS_WAIT", "soon")
    result = CliRunner().invoke(fashion, ["status"])
    assert "'soon' is not a valid float" in result.output


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_option_has_the_variable_of_its_own_name(command: str) -> None:
    """As docs/client.md says it; the shared ones have no command in it."""
    context = click.Context(fashion)
    options = fashion.get_command(context, command).params  # type: ignore[union-attr]
    for option in options:
        if isinstance(option, click.Option):
            name = max(option.opts, key=len)[2:].upper().replace("-", "_")
            variable = option.envvar if isinstance(option.envvar, str) else (option.envvar or [""])[0]
            assert variable in (f"FASHION_{command.upper()}_{name}", f"FASHION_{name}")


def test_fish_gets_whole_descriptions() -> None:
    """They have commas, at which click's script would cut them."""
    process = subprocess.run(
        [FASHION], env={"_FASHION_COMPLETE": "fish_source"}, capture_output=True, text=True, check=True
    )
    assert 'string split --max 1 "," $completion' in process.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    """The documented line prints a script for the shell."""
    process = subprocess.run(
        [FASHION],
        env={"_FASHION_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if shell == "bash" and "requires bash" in process.stderr.lower():
        pytest.fail(process.stderr)
    assert "_fashion_completion" in process.stdout


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ClientError("it failed: do this"), 1, "Error: it failed: do this\n"),
        (ClientUsageError("asked wrongly: do that"), 2, "Error: asked wrongly: do that\n"),
        (server_error("INTERNAL", "broken"), 1, "Error: INTERNAL: broken\n"),
        (ValueError("oops"), 1, "Error: unforeseen ValueError: oops (--verbose shows where)\n"),
        (
            ModuleNotFoundError("No module named 'starlette'", name="starlette"),
            1,
            "Error: unforeseen ModuleNotFoundError: No module named 'starlette' (--verbose shows where)\n",
        ),
        (click.ClickException("click's own"), 1, "Error: click's own\n"),
        (KeyboardInterrupt(), 1, "\nAborted!\n"),
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_an_error_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str, *, verbose: bool
) -> None:
    """1, it failed; 2, it was asked wrongly; with --verbose a traceback before it, but for click's own errors."""

    def failing(*_servers: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("client.connection.connect", failing)
    result = CliRunner().invoke(fashion, ["status", *(["--verbose"] if verbose else [])])
    assert (result.exit_code, result.stdout) == (code, "")
    is_traced = verbose and not isinstance(error, click.ClickException | KeyboardInterrupt)
    assert ("Traceback (most recent call last)" in result.stderr) is is_traced
    assert result.stderr.endswith(text) if is_traced else result.stderr == text


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_short_or_long(option: str) -> None:
    """Of the group and of a command."""
    result = CliRunner().invoke(fashion, [option])
    assert (result.exit_code, "Example: fashion train && fashion export && fashion serve" in result.stdout) == (0, True)
    result = CliRunner().invoke(fashion, ["status", option], prog_name="fashion")
    assert (result.exit_code, result.stdout.startswith("Usage: fashion status [OPTIONS]\n")) == (0, True)


def test_the_version_is_the_packages() -> None:
    """As installed."""
    version = importlib.metadata.version("fashion-mnist-serving")
    assert CliRunner().invoke(fashion, ["--version"]).stdout == f"fashion, version {version}\n"


def test_verbose_is_an_option_of_each_command_once() -> None:
    """However often a command is looked up; another name is none."""
    context = click.Context(fashion)
    for _ in range(2):
        command = fashion.get_command(context, "status")
        assert command is not None
        assert [option.name for option in command.params].count("verbose") == 1
    assert fashion.get_command(context, "sing") is None


@pytest.mark.parametrize("verbose", [False, True])
def test_other_warnings_than_of_pictures_are_for_verbose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, verbose: bool
) -> None:
    """A picture's is a line on stderr, each time; afterwards the program's own way is back."""
    path = tmp_path / "blank.npy"
    np.save(path, np.zeros((1, 28, 28), np.uint8))
    shown: list[str] = []

    def show(message: Warning | str, *_place: object, **_names: object) -> None:
        shown.append(str(message))

    class Warned(FakeTransport):
        def outputs(self, call: Call) -> dict[str, Output]:
            warnings.warn("a library's", UserWarning, stacklevel=1)
            for _ in range(2):
                warnings.warn("blank: hardly any contrast", ImageWarning, stacklevel=1)
            return super().outputs(call)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        result = answering(monkeypatch, Warned())("predict", path, *(["--verbose"] if verbose else []))
        assert warnings.showwarning is show
    assert result.stderr == "Warning: blank: hardly any contrast\n" * 2
    assert shown == (["a library's"] if verbose else [])


def test_telemetry_that_cannot_be_sent_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is done all the same."""

    def start(*_arguments: object) -> None:
        raise telemetry.TelemetryError("no such collector")

    monkeypatch.setattr(telemetry, "start", start)
    result = answering(monkeypatch, FakeTransport())("status")
    assert (result.exit_code, result.stdout) == (0, "fashion_mnist  1  AVAILABLE\n")
    assert result.stderr == "Warning: no such collector\n"
