"""`fashion serve` with a simulated `tensorflow_model_server`, and with it in a simulated container: what it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.console import FASHION
from tests.support.live import KITCHEN

SIMULATED_PROGRAMS = Path(__file__).parents[2] / "support" / "simulated"
PROGRAMS = {"tensorflow_model_server": "model_server.py", "docker": "engine.py"}
# A failure that is recognised only when the time is up would not pass within the tests' own.
WAIT = "--wait=100"
SECONDS = 60
SIMULATED = pytest.mark.parametrize(
    "backend", [("--backend=binary",), ("--backend=container", "--engine=docker")], ids=["binary", "container"]
)
BACKENDS = pytest.mark.parametrize(
    "backend",
    [("--backend=binary",), ("--backend=container", "--engine=docker"), ("--backend=embedded",)],
    ids=["binary", "container", "embedded"],
)
DETACHED = pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["foreground", "detached"])


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated programs first on the PATH; a directory without models."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SIMULATED_PROGRAMS / script}" "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SIMULATED_ENGINE", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.chdir(tmp_path)


def versions(**kinds: str) -> None:
    """Version directories v1, v2, ..., good or broken."""
    for name, kind in kinds.items():
        directory = Path("models/fashion_mnist") / name.removeprefix("v")
        shutil.copytree(KITCHEN / "1", directory)
        if kind == "broken":
            (directory / "saved_model.pb").write_bytes(b"no model")


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`fashion serve` on free ports, to its end."""
    command = [FASHION, "serve", WAIT, "--port=0", "--rest-port=0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


@DETACHED
@SIMULATED
def test_a_failed_load_is_explained_at_once(backend: tuple[str, ...], detach: tuple[str, ...]) -> None:
    """By the retrier's line, which the server writes minutes before its status has it."""
    versions(v1="broken")

    done = serve(*backend, *detach)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: version 1 of fashion_mnist cannot be loaded: OUT_OF_RANGE: Read less bytes than requested"
    )


@SIMULATED
def test_a_version_that_fails_beside_one_that_serves_is_a_note(backend: tuple[str, ...]) -> None:
    """The other one is served; without the line of the log its status would say LOADING for minutes."""
    versions(v1="good", v2="broken")

    done = serve(*backend, "--detach")
    port = re.search(r"grpc://127\.0\.0\.1:(\d+)", done.stdout)
    assert port, done.stderr
    stopped = subprocess.run([FASHION, "serve", "--stop", "--port", port[1]], check=False, timeout=SECONDS)

    assert (done.returncode, stopped.returncode) == (0, 0)
    assert done.stderr.splitlines()[0] == (
        "Note: version 2 of fashion_mnist cannot be loaded: OUT_OF_RANGE: Read less bytes than requested"
    )


@DETACHED
@BACKENDS
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--bogus_flag=3", "unknown argument: --bogus_flag=3"),
        ("--rest_api_num_threads=x", "Couldn't interpret value x for flag rest_api_num_threads"),
    ],
    ids=["unknown", "value"],
)
def test_a_wrong_flag_is_named(backend: tuple[str, ...], detach: tuple[str, ...], flag: str, message: str) -> None:
    """On every backend, at once, in one line; the real server goes on to serve after the first of the two."""
    versions(v1="good")

    done = serve(*backend, *detach, "--", flag)

    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: the server does not take what comes after --: {message}")


@BACKENDS
def test_the_server_s_own_help_is_printed(backend: tuple[str, ...]) -> None:
    """Without a model, whatever the server's exit code is."""
    done = serve(*backend, "--", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert re.search(r"\n\s+--model_config_file", done.stdout)


@SIMULATED
def test_a_model_that_loads_is_served_until_the_end(backend: tuple[str, ...]) -> None:
    """The server's own log is kept from the terminal; SIGTERM ends both with 0."""
    versions(v1="good")
    command = [FASHION, "serve", WAIT, "--port=0", "--rest-port=0", *backend]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        errors = process.stderr.read()

    assert lines[-1] == "Stop  Ctrl-C\n"
    assert "cuda" not in errors
