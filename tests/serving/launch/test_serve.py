"""`fashion serve`: what it checks, prints and ends with."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from client import cli
from tests.support.console import FASHION, fashion
from tests.support.live import KITCHEN


def test_it_says_where_it_listens_and_stops_cleanly(tmp_path: Path) -> None:
    """gRPC and REST URLs and a command to try; SIGTERM ends it and its server with 0."""
    shutil.copytree(KITCHEN / "1", tmp_path / "kitchen/1")
    model = ("--model-base-path", str(tmp_path / "kitchen"), "--model-name", "kitchen")
    command = [FASHION, "serve", "--backend=embedded", *model, "--port=0", "--rest-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert rest == "Stopped.\n"
    assert re.fullmatch(
        rf"Loading kitchen from {tmp_path}/kitchen \.\.\.\n"
        r"Waiting requests are merged into one run \(serving/config/batching\.config\)\n"
        r"gRPC  grpc://(127\.0\.0\.1:\d+)\n"
        r"REST  http://127\.0\.0\.1:\d+/v1/models/kitchen\n"
        r"Try   fashion predict --server grpc://\1 IMAGE\.png\n"
        r"Stop  Ctrl-C\n",
        "".join(lines),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-base-path", "none"], "Could not find base path none: create it, or correct"),
        (["--model-base-path", "empty"], "No versions of fashion_mnist under empty: expected numeric folders such as"),
        (["--model-base-path", str(KITCHEN), "--port=9", "--rest-port=9"], "--port and --rest-port are both 9"),
    ],
    ids=["missing", "empty", "one port"],
)
def test_it_checks_before_it_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and the fix in one line."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()

    result = CliRunner().invoke(cli.fashion, ["serve", *arguments])

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_ends_by_itself_is_a_failure() -> None:
    """Exit code 1, with the server's last words."""
    model = ("--model-base-path", KITCHEN, "--port=0", "--rest-port=0")
    process = fashion("serve", "--backend=embedded", *model, "--", "--grpc_channel_arguments=x")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(
        "Error: the server ended before the model was AVAILABLE: Error: --grpc_channel_arguments: x"
    )
