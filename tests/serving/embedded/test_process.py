"""The server as a process: what it prints, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.live import KITCHEN, running


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """The server run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "serving.embedded", *flags], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """It says where it listens and nothing else, answers with the newest version, and exits with 0."""
    with running("--model_name=kitchen", f"--model_base_path={KITCHEN}") as server:
        answer = httpx.post(f"http://{server.rest}/v1/models/kitchen:predict", json={"instances": [1]})
        assert answer.json() == {"predictions": [3.5]}

        server.process.send_signal(number)

        assert server.process.wait(30) == 0
        assert server.log.read_text() == (
            f"Running gRPC ModelServer at {server.grpc} ...\nExporting HTTP/REST API at:{server.rest} ...\n"
        )


def test_a_wrong_base_path_is_told_at_once(tmp_path: Path) -> None:
    """With the fix; the ports open all the same, so that the status can be asked."""
    with running("--model_name=m", f"--model_base_path={tmp_path}/none") as server:
        log = server.log.read_text()
    assert log.splitlines()[0] == (
        f"m cannot be served yet: Could not find base path {tmp_path}/none: create it, or correct the path"
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("model_config_file", "tensorflow.serving.ModelServerConfig"),
        ("tensorflow_session_config_file", "tensorflow.ConfigProto"),
    ],
)
def test_a_configuration_that_does_not_parse_ends_the_start(tmp_path: Path, flag: str, message: str) -> None:
    """In TF Serving's words, with exit code 2."""
    config = tmp_path / "bad.config"
    config.write_text("improperly formatted file\n")

    ended = run(f"--model_base_path={KITCHEN}", f"--{flag}={config}")

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: Error parsing text-format {message}: 1:")
    assert ended.stderr.endswith(f"\nInvalid protobuf file: '{config}'\n")
    assert "Traceback" not in ended.stderr


def test_an_unknown_flag_is_told_with_the_usage() -> None:
    """Exit code 2."""
    ended = run("--nope")

    assert ended.returncode == 2
    assert ended.stderr.startswith("unknown argument: --nope\nusage: ")


def test_help_needs_no_tensorflow() -> None:
    """It prints the flags at once."""
    ended = run("--help")

    assert ended.returncode == 0
    assert "--model_base_path" in ended.stdout
