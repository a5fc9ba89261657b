"""`fashion serve --detach`: what it leaves running, how that ends, and where the server does not come up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from fashion_common.installation import state_directory
from serving.launch import detached
from serving.launch.backends import BACKENDS, ServeOptions
from serving.launch.errors import LaunchError, ServerEndedError
from tests.support.live import KITCHEN, free_port, wait_until

# A server of version 1 on the port of its argument; asked to end, it writes its process id to a file and ends or not.
SERVER = """
import http.server, json, os, signal, sys
port, asked, ends = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "ends"
def stop(*_):
    open(asked, "w").write(str(os.getpid()))
    if ends:
        os._exit(0)
signal.signal(signal.SIGTERM, stop)
class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        self.wfile.write(json.dumps({"model_version_status": [status]}).encode())
http.server.HTTPServer(("127.0.0.1", port), Status).serve_forever()
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServeOptions]:
    """What starts such a server, which ends when it is asked to, and with the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port), str(tmp_path / "asked")]
    monkeypatch.setitem(BACKENDS, "embedded", lambda options: [*command, *(options.server_flags or ["ends"])])
    options = ServeOptions(backend="embedded", port=1, rest_port=port, versions=(1,))
    yield options
    if (detached.port_directory(options.port) / "server.json").exists():
        os.kill(pid_of(options), signal.SIGKILL)


def pid_of(options: ServeOptions) -> int:
    """The process that is recorded for a port."""
    return int(json.loads((detached.port_directory(options.port) / "server.json").read_text())["pid"])


def test_it_lives_in_a_session_of_its_own_until_it_is_asked_to_end(options: ServeOptions, tmp_path: Path) -> None:
    """No Ctrl-C of the terminal reaches it; SIGTERM comes first, and lets it finish its requests."""
    detached.start(options, {}, 60)
    pid = pid_of(options)
    assert os.getsid(pid) == pid != os.getsid(0)

    detached.stop(options.port)

    assert (tmp_path / "asked").read_text() == str(pid)
    wait_until(lambda: not is_running(pid))
    with pytest.raises(LaunchError, match="no server was started with --detach on port 1"):
        detached.stop(options.port)


def test_what_does_not_end_when_asked_is_killed(
    options: ServeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it had its time."""
    monkeypatch.setattr(detached, "STOP_SECONDS", 1)
    detached.start(replace(options, server_flags=["goes on"]), {}, 60)
    pid = pid_of(options)

    detached.stop(options.port)

    assert (tmp_path / "asked").read_text() == str(pid)
    wait_until(lambda: not is_running(pid))


def test_a_second_start_on_a_port_leaves_the_first_server_running(options: ServeOptions) -> None:
    """It is refused; the first one is still the one that --stop ends."""
    detached.start(options, {}, 60)
    pid = pid_of(options)

    with pytest.raises(LaunchError, match=r"^a server of port 1 runs already "):
        detached.start(replace(options, rest_port=free_port()), {"models.config": "of the second"}, 60)

    assert pid_of(options) == pid
    assert is_running(pid)
    assert not (detached.port_directory(options.port) / "config" / "models.config").exists()
    detached.stop(options.port)
    wait_until(lambda: not is_running(pid))


def test_one_that_had_ended_by_itself_is_told_and_the_port_is_free(options: ServeOptions) -> None:
    """With its last line; the next start works."""
    detached.start(options, {}, 60)
    os.kill(pid_of(options), signal.SIGKILL)
    wait_until(lambda: not is_running(pid_of(options)))

    with pytest.raises(ServerEndedError, match=r"^the server had ended by itself: "):
        detached.stop(options.port)

    detached.start(options, {}, 60)
    detached.stop(options.port)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no such flag')", "the server ended before the model was AVAILABLE: no such flag"),
        ("import time; time.sleep(60)", r"fashion_mnist is not AVAILABLE after 0 s \(--wait takes more\): it printed"),
    ],
    ids=["ends", "too slow"],
)
def test_nothing_is_left_of_a_server_that_does_not_come_up(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has its last line; it is stopped and no longer recorded, so that the next can start on its port."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setitem(BACKENDS, "embedded", lambda _: [sys.executable, "-c", program])
    options = ServeOptions(backend="embedded", port=1, rest_port=1)
    for _ in range(2):
        with pytest.raises(ServerEndedError, match=message):
            detached.start(options, {}, 0 if "sleep" in program else 30)
    with pytest.raises(LaunchError, match="no server was started with --detach on port 1"):
        detached.stop(options.port)


def detach(*arguments: str) -> Result:
    """`fashion serve --detach` of one model on free ports."""
    shutil.copytree(KITCHEN / "1", "models/fashion_mnist/1", dirs_exist_ok=True)
    return CliRunner().invoke(fashion, ["serve", "--backend=embedded", "--detach", "--rest-port=0", *arguments])


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "HOME"])
def test_a_state_directory_that_cannot_be_written_is_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the reason and the way out, from --detach and from --stop."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no directory")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "file"))

    started = detach("--port=0")
    stopped = CliRunner().invoke(fashion, ["serve", "--stop"])

    assert (started.exit_code, stopped.exit_code) == (1, 1)
    [line] = started.stderr.splitlines()
    assert line.startswith(f"Error: {tmp_path}/file/")
    assert line.endswith(
        "cannot be written: Not a directory. XDG_STATE_HOME names another directory for what --detach keeps"
    )
    assert stopped.stderr.startswith("Error: no server was started with --detach on port 8500")


def test_no_home_directory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is in no passwd file."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setattr(Path, "home", no_home)
    result = detach("--port=0")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: a detached server has no place for its log, as you have no home directory: "
        "XDG_STATE_HOME names another directory for what --detach keeps\n"
    )


def test_a_second_server_on_a_port_leaves_the_firsts_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address may be another one, so that the port is free: the configuration is still that of the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    files = state_directory() / "8500"
    before = {"server.json": f'{{"pid": {os.getpid()}}}', "server.log": "of the first", "config/models.config": "its"}
    for name, text in before.items():
        (files / name).parent.mkdir(exist_ok=True, parents=True)
        (files / name).write_text(text)

    with (files / "server.lock").open("wb") as lock:
        assert detached._locked(lock)
        result = detach("--port=8500", "--host=127.0.0.2")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: a server of port 8500 runs already")
    assert {name: (files / name).read_text() for name in before} == before


def test_what_is_kept_of_a_detached_server(options: ServeOptions, tmp_path: Path) -> None:
    """Its configuration, log and record, in a directory of its port; --stop leaves the log."""
    command = detached.start(options, {"models.config": "text"}, 60)
    directory = tmp_path / "fashion-serving" / "1"
    assert detached.port_directory(1) == directory
    assert command == f"tail -f {directory}/server.log"
    assert (directory / "config" / "models.config").read_text() == "text"
    record = json.loads((directory / "server.json").read_text())
    assert record == {"pid": pid_of(options), "directory": str(directory)}
    assert detached.is_alive(directory)
    detached.stop(1)
    assert not detached.is_alive(directory)
    assert not (directory / "config").exists()
    assert not (directory / "server.json").exists()
    assert not (directory / "running.json").exists()
    assert (directory / "server.log").exists()


def test_a_server_that_does_not_come_up_leaves_nothing_running(
    options: ServeOptions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its log is shown: twenty lines."""
    program = "for number in range(30): print('line', number)"
    monkeypatch.setitem(BACKENDS, "embedded", lambda _: [sys.executable, "-c", program])
    with pytest.raises(ServerEndedError, match=r"^the server ended before the model was AVAILABLE: line 29$"):
        detached.start(options, {}, 60)
    assert capsys.readouterr().err.splitlines() == [f"line {number}" for number in range(10, 30)]
    assert not (detached.port_directory(1) / "server.json").exists()


def test_a_place_that_detached_servers_cannot_have(
    options: ServeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is told with what names another."""
    fix = "XDG_STATE_HOME names another directory for what --detach keeps"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError) as raised:
        detached.start(options, {}, 60)
    assert str(raised.value) == f"{tmp_path}/file/fashion-serving/1 cannot be written: Not a directory. {fix}"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(LaunchError) as raised:
        detached.port_directory(1)
    assert str(raised.value) == (f"a detached server has no place for its log, as you have no home directory: {fix}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
