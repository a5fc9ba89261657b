"""`fashion status` against a live server and where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.commands import status
from client.errors import ServerError, server_error
from client.transports.fake import FakeTransport
from client.types import VersionStatus
from tests.support.client_commands import APIS, NOBODY, answering, run
from tests.support.clocks import Clock
from tests.support.live import running
from tests.support.road import Road


@APIS
def test_a_server_that_is_ready_is_not_waited_for(road: Road, api: str) -> None:
    """One line a version, with the runtime that serves it, over both APIs."""
    assert run(road, api, "status", "--wait", 30).output == "fashion_mnist  1  AVAILABLE  tensorflow\n"


def test_each_version_has_its_own_runtime(toys: Path, lite_toys: Path, tmp_path: Path) -> None:
    """Where a server prefers LiteRT, what has no model for it stays on TensorFlow; `doctor` says the same."""
    shutil.copytree(toys / "half_plus_two" / "1", tmp_path / "m" / "1")
    shutil.copytree(lite_toys / "half_plus_two" / "2", tmp_path / "m" / "2")
    config = tmp_path / "models.config"
    config.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path / 'm'}' model_platform: 'tensorflow' "
        "model_version_policy { all {} } } }"
    )
    with running(f"--model_config_file={config}", "--prefer_tflite_model") as server:
        for address in (f"grpc://{server.grpc}", f"http://{server.rest}"):
            arguments = ["--server", address, "--model-name", "m"]
            result = CliRunner().invoke(fashion, ["status", *arguments])
            assert result.output == "m  2  AVAILABLE  litert\nm  1  AVAILABLE  tensorflow\n"
            result = CliRunner().invoke(fashion, ["status", "--json", *arguments])
            assert [version["runtime"] for version in json.loads(result.output)] == ["litert", "tensorflow"]
            result = CliRunner().invoke(fashion, ["doctor", *arguments])
            assert "m: version 2 is AVAILABLE on litert, version 1 is AVAILABLE on tensorflow" in result.output


def test_a_server_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors before the end of the wait are none, and neither is a version that loads."""
    monkeypatch.setattr(status, "_POLL_SECONDS", 0.001)
    answers: Iterator[ServerError | str] = iter([ServerError("UNAVAILABLE", "not yet"), "LOADING", "AVAILABLE", "END"])

    def ask() -> list[VersionStatus]:
        answer = next(answers)
        if isinstance(answer, ServerError):
            raise answer
        return [VersionStatus(1, answer)]

    connection: Any = SimpleNamespace(status=ask)
    assert status._wait(connection, 30) == [VersionStatus(1, "AVAILABLE")]


def test_the_wait_ends_with_the_last_error() -> None:
    """After the seconds that --wait names."""
    result = CliRunner().invoke(fashion, ["status", "--server", NOBODY, "--wait", "0.3"])
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr


_STATES = [VersionStatus(2, "END", "INTERNAL", "no such file"), VersionStatus(1, "AVAILABLE", runtime="litert")]


@pytest.mark.parametrize(("versions", "code"), [(_STATES, 0), (_STATES[:1], 1), ([], 1)])
def test_a_version_is_a_line_or_an_object(
    monkeypatch: pytest.MonkeyPatch, versions: list[VersionStatus], code: int
) -> None:
    """With the error of one that failed and the runtime of one that runs; exit 1 unless one is AVAILABLE."""
    fashion_command = answering(monkeypatch, FakeTransport(versions=versions))
    lines = ["m  2  END  INTERNAL: no such file\n", "m  1  AVAILABLE  litert\n"][: len(versions)]
    result = fashion_command("status", "--model-name", "m")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "".join(lines), "")
    objects = [
        {"version": 2, "state": "END", "error_code": "INTERNAL", "error_message": "no such file", "runtime": ""},
        {"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": "", "runtime": "litert"},
    ][: len(versions)]
    result = fashion_command("status", "--json")
    assert (result.exit_code, result.stdout) == (code, json.dumps(objects, indent=2) + "\n")


def test_a_wait_looks_five_times_a_second_and_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last states, or the last error; without a wait, and with one of none, it looks once."""
    clock = Clock()
    monkeypatch.setattr(status, "time", clock)
    loading = FakeTransport(versions=[VersionStatus(1, "LOADING")])
    fashion_command = answering(monkeypatch, loading)
    for options, pauses in (((), 0), (("--wait", 0), 0), (("--wait", 0.5), 3)):
        clock.slept.clear()
        result = fashion_command("status", *options)
        assert (result.exit_code, result.stdout, clock.slept) == (1, "fashion_mnist  1  LOADING\n", [0.2] * pauses)
    gone = [server_error("INTERNAL", f"gone {count}") for count in range(9)]
    loading.errors = gone[:]
    clock.slept.clear()
    result = fashion_command("status", "--wait", 0.5)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: INTERNAL: gone 3\n")
    assert (clock.slept, loading.errors) == ([0.2] * 3, gone[4:])
