"""What is done stays: when the reader of a pipe goes, when the server goes, when Ctrl-C comes."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.connection import Connection
from client.errors import server_error
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output
from tests.support.fake_console import fake_fashion


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """2,000 black images as `.npy`."""
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((2000, 28, 28), np.uint8))
    return path


@pytest.mark.parametrize("lines", [0, 1], ids=["true", "head"])
@pytest.mark.parametrize("options", [(), ("--output", "/dev/stdout")], ids=["stdout", "output"])
def test_a_closed_pipe_ends_it_without_a_word(array: Path, lines: int, options: tuple[str, ...]) -> None:
    """`| head` and `| true`; also where the pipe is named."""
    with fake_fashion("predict", *options, array) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            assert process.stdout.readline().endswith(b"Ankle boot  0.9100\n")
        process.stdout.close()
        assert process.stderr.read().replace(b"20 requests\n", b"") == b""
        assert process.wait() == 1


class _Dying(FakeTransport):
    """Answers three batches and is gone."""

    def outputs(self, call: Call) -> dict[str, Output]:
        if len(self.asked) == 2:
            self.errors = [server_error("INTERNAL", "gone")] * 9
        return super().outputs(call)


@pytest.mark.parametrize("named", [True, False], ids=["output", "stdout"])
def test_answers_before_a_servers_error_are_kept(
    array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """They are whole JSON; the error and how many they are go to stderr, with exit code 1."""
    connection = Connection([_Dying(class_id=9)], ModelSpec())
    monkeypatch.setattr("client.connection.connect", lambda *_servers, **_settings: connection)
    output = tmp_path / "answers.txt"
    options = ["--json", "--batch-size", "10", "--concurrency", "1", *(["--output", str(output)] if named else [])]
    result = CliRunner().invoke(fashion, ["predict", *options, str(array)])
    assert result.exit_code == 1
    answers = json.loads(output.read_text() if named else result.stdout)
    assert [answer["class_name"] for answer in answers] == ["Ankle boot"] * 30
    place = output if named else "standard output"
    assert result.stderr == (
        f"Ended early: the first 30 answers are in {place} (fashion score goes on)\nError: INTERNAL: gone\n"
    )


def test_bench_prints_the_results_so_far_on_ctrl_c() -> None:
    """No traceback of any thread; exit code 0, as `ping` has it."""
    with fake_fashion("bench", "--duration", 60, "--warm-up", 0) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == b"20 requests\n"
        process.send_signal(signal.SIGINT)
        text = process.stdout.read().decode()
        assert re.match(r"[1-9]\d* requests, [1-9]\d* requests/s, ", text)
        assert text.endswith("errors: none\n")
        assert set(process.stderr.read().splitlines()) <= {b"20 requests"}
        assert process.wait() == 0


def test_ctrl_c_ends_a_comparison_while_it_measures(array: Path) -> None:
    """It is not taken for the end of one turn of 24."""
    with fake_fashion("compare", "--duration", 60, array) as process:
        assert process.stderr is not None
        # 2,000 images are eight requests: the 21st measures latency.
        assert process.stderr.readline() == b"20 requests\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
        assert process.stderr.read().endswith(b"Aborted!\n")
