"""What lies in the user's directory is not run, whatever its name."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from fashion_common.installation import module_command
from serving.apis.messages import ModelServerConfig
from serving.embedded.workers import supervisor
from serving.embedded.workers.configuration import Record
from tests.support.console import fashion
from tests.support.live import KITCHEN


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One with files that would take the place of ours, of the standard library's and of a package's."""
    for name in ("serving/__init__.py", "random.py", "runpy.py", "click.py", "tensorflow.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise SystemExit('the file of the working directory was run')")
    return tmp_path


def test_fashion_serve_runs_our_server(directory: Path) -> None:
    """It is the real one that complains about the flag; the console command is ours as well."""
    model = ("--model-base-path", KITCHEN, "--port=0", "--rest-port=0")
    done = fashion("serve", "--backend=embedded", *model, "--", "--nope", cwd=directory)
    assert (done.returncode, done.stderr) == (
        2,
        "Error: the server does not take what comes after --: unknown argument: --nope\n",
    )


def test_so_does_the_supervisor_with_its_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each worker is started as the server is."""
    commands: list[Sequence[str]] = []

    class StoppedError(Exception):
        """The supervisor need not wait for them."""

    def worker(command: Sequence[str], _: Path) -> None:
        commands.append(command)
        raise StoppedError

    monkeypatch.setattr(supervisor, "Worker", worker)
    first, times = Record(ModelServerConfig()), supervisor.Times(0, 0)
    with pytest.raises(StoppedError):
        supervisor.Supervisor(["--port=8500"], 2, first, times, threading.Event()).run()
    [command] = commands
    assert command[:4] == [*module_command("serving.embedded"), "--port=8500"]
