"""`fashion web`: the page beside a server, or with one of its own."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.commands.web import _pass_on
from client.transports.security import Security
from client.web import server
from tests.support.client_commands import NOBODY
from tests.support.console import FASHION
from tests.support.live import KITCHEN, free_port, wait_until
from tests.support.road import Road

_PAGE = re.compile(r"Page  (http://\S+/)\n")


@contextmanager
def _running(*arguments: object, cwd: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it prints."""
    command = [FASHION, *map(str, arguments)]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, _address(process.stdout)
        finally:
            process.terminate()


def _address(stdout: IO[str]) -> str:
    lines = []
    for line in stdout:
        lines.append(line)
        if match := _PAGE.fullmatch(line):
            return match[1]
    raise AssertionError(f"no address: {lines}")


def _state(address: str) -> Any:
    with urllib.request.urlopen(f"{address}api/state", timeout=30) as answer:  # noqa: S310 - http
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_where_the_page_is_and_ends_when_asked(road: Road, number: int) -> None:
    """With exit code 0 and no word more."""
    with _running("web", "--port", 0, "--server", road.servers["grpc"]) as (process, address):
        state = _state(address)
        assert (state["server"], state["counts"]) == (road.servers["grpc"], None)
        process.send_signal(number)
        assert process.wait(20) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "shown"), [((), "kitchen"), (("--model-name", "a b"), "a b")])
def test_without_a_server_it_starts_one_that_ends_with_it(tmp_path: Path, name: tuple[str, ...], shown: str) -> None:
    """What `fashion serve` would do here, under the name that it would have there; its own lines come first."""
    shutil.copytree(KITCHEN / "1", tmp_path / "models/kitchen/1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASHION_SERVE_MODEL_BASE_PATH", str(tmp_path / "models/kitchen"))
        with _running("web", "--port", 0, *name, cwd=tmp_path) as (process, address):
            state = _state(address)
            process.terminate()
            assert process.wait(20) == 0
    assert (state["model_name"], state["labels"]) == (shown, {"stable": 1, "canary": 1})
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(state["server"].rpartition(":")[2])))


@pytest.mark.parametrize("arguments", [["--open"], []])
def test_the_page_opens_where_there_is_a_desktop(tmp_path: Path, arguments: list[str]) -> None:
    """By the browser of the desktop, or of the variable BROWSER; by itself from a terminal only."""
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\nprintf %s "$1" > "$0.part" && mv "$0.part" "$0.url"\n')
    browser.chmod(0o755)
    environment = os.environ | {"BROWSER": f"{browser} %s", "DISPLAY": ":0"}
    terminal, stdout = os.openpty()
    command = [FASHION, "web", "--port", "0", "--server", NOBODY, *arguments]
    with subprocess.Popen(command, stdout=stdout, env=environment) as process:
        try:
            wait_until((tmp_path / "browser.url").exists)
        finally:
            process.terminate()
    os.close(stdout)
    printed = os.read(terminal, 1000).decode()
    os.close(terminal)
    assert printed == f"Page  {(tmp_path / 'browser.url').read_text()}\r\n"


def test_a_server_that_does_not_start_is_said_by_the_server(tmp_path: Path) -> None:
    """Its words, then ours; its exit code."""
    command = [FASHION, "web", "--port", "0"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 2
    first, *_, last = [line for line in process.stderr.splitlines() if line.startswith("Error")]
    assert first.startswith("Error: Could not find base path models/fashion_mnist")
    assert last == "Error: the embedded server ended with exit code 2, as said above: --server names one that runs"


def test_serve_shows_the_page_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fashion serve --web`: a program of its own, over REST, which has the metrics; it ends with the server.

    Options of the page's are given by their variables.
    """
    port = free_port()
    monkeypatch.setenv("FASHION_WEB_PORT", str(port))
    shutil.copytree(KITCHEN / "1", tmp_path / "kitchen/1")
    model = ("--model-base-path", tmp_path / "kitchen", "--model-name", "kitchen", "--backend", "embedded")
    with _running("serve", "--web", "--port", 0, "--rest-port", 0, *model) as (process, address):
        state = _state(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout.read() == "Stopped.\n"  # type: ignore[union-attr]
    assert address == f"http://127.0.0.1:{port}/"
    assert state["server"].startswith("http://127.0.0.1:")
    assert state["counts"] is not None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=5)  # noqa: S310 - http


def test_a_port_that_is_taken_is_named_or_another_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was asked for is an error; the default is not worth one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(fashion, ["web", "--server", NOBODY, "--port", str(port)])
        assert result.exit_code == 2
        assert f"Error: 127.0.0.1:{port} cannot be listened on: Address already in use: --port 0 takes" in result.output
        monkeypatch.setattr(server, "PORT", port)
        with server.listen("127.0.0.1", None) as listener:
            assert listener.getsockname()[1] != port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", NOBODY, "--host", "192.0.2.1"], "Error: 192.0.2.1:0 cannot be listened on: "),
        (["--server", "nowhere"], "Error: 'nowhere' is not a server address: "),
        (["--server", NOBODY, "--timeout", "0"], "Error: a deadline of 0 s cannot be met"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    """Before anything is served."""
    result = CliRunner().invoke(fashion, ["web", "--port", "0", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.parametrize(
    ("host", "name"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]
)
def test_the_address_is_one_that_this_machine_can_open(host: str, name: str) -> None:
    """What listens on all addresses is found on the loopback."""
    with server.listen(host, 0) as listener:
        assert server.url(listener, host) == f"http://{name}:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("command", [["web"], ["serve", "--web"]])
def test_a_missing_extra_says_what_to_install(command: list[str], tmp_path: Path) -> None:
    """Before a server is started."""
    program = "import sys; sys.modules['starlette'] = None; from client.cli import main; main()"
    if command[0] == "serve":
        program = f"import importlib.util as u; u.find_spec = lambda name: None; {program}"
    process = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == (1 if command == ["web"] else 2)
    assert re.search(r"needs the extra \[web\] \(starlette\S* is not installed\): pip install -e", process.stderr)


def test_the_page_contradicts_a_detached_server() -> None:
    """It would end with the command; `fashion web --server` shows one that is detached."""
    result = CliRunner().invoke(fashion, ["serve", "--web", "--detach"])
    assert result.exit_code == 2
    assert "--detach and --web exclude each other: give one of them" in result.output


@pytest.mark.parametrize(
    ("is_terminal", "platform", "variables", "opens"),
    [
        (True, "linux", {"DISPLAY": ":0"}, True),
        (True, "linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (True, "linux", {}, False),
        (True, "linux", {"DISPLAY": ""}, False),
        (True, "darwin", {}, True),
        (True, "win32", {}, True),
        (False, "darwin", {"DISPLAY": ":0"}, False),
    ],
)
def test_a_desktop_is_where_a_browser_opens_a_window(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, platform: str, variables: dict[str, str], opens: bool
) -> None:
    """From a terminal only; --open and --no-open say it, whatever there is."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened: list[str] = []
    served: list[tuple[object, ...]] = []

    class Output(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    class Thread:
        def __init__(self, target: object, args: tuple[str], daemon: bool) -> None:
            assert (target, daemon) == (webbrowser.open, True)
            opened.extend(args)

        def start(self) -> None:
            assert not served

    def run(listener: socket.socket, *arguments: object) -> None:
        listener.close()
        served.append(arguments)

    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr("client.commands.web.threading.Thread", Thread)
    for option, expected in (([], opens), (["--open"], True), (["--no-open"], False)):
        opened.clear()
        served.clear()
        arguments = ["web", "--server", NOBODY, "--port", "0", "--model-name", "m", "--timeout", "3", *option]
        with monkeypatch.context() as patch:
            printed = Output()
            patch.setattr(sys, "stdout", printed)
            patch.setattr(sys, "platform", platform)
            fashion(arguments, standalone_mode=False)
        [page] = _PAGE.findall(printed.getvalue())
        assert opened == ([page] if expected else [])
        assert served == [("127.0.0.1", (NOBODY,), "m", 3.0, Security())]


def test_what_its_own_server_says_later_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, until it ends."""
    _pass_on(io.StringIO("one\n\ntwo\n"))
    assert capsys.readouterr().out == "one\n\ntwo\n"
