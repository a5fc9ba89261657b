"""How a starting server is watched until the model is AVAILABLE."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.launch import log, run
from serving.launch.backends import ServeOptions
from serving.launch.errors import ServerEndedError, ServeUsageError
from tests.support.live import wait_until


class Looks:
    """A server that shows, at each look, the next of these states by version, and then the last one again.

    ends: at which look it no longer runs. lines: of its log, from the look `logged` on.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *states: dict[int, str],
        ends: int | None = None,
        lines: Sequence[str] = (),
        logged: int = 1,
    ) -> None:
        self.count = 0
        self._states = states
        self._ends = ends
        self._lines = lines
        self._logged = logged
        monkeypatch.setattr(run, "version_states", lambda *_: self._look())
        monkeypatch.setattr(run, "POLL_SECONDS", 0)

    def _look(self) -> dict[int, dict[str, Any]]:
        states = self._states[min(self.count, len(self._states) - 1)]
        self.count += 1
        return {
            version: {
                "state": state.partition(" ")[0],
                "status": {
                    "error_code": "INTERNAL" if " " in state else "OK",
                    "error_message": state.partition(" ")[2],
                },
            }
            for version, state in states.items()
        }

    def alive(self) -> bool:
        """Until its end."""
        return self._ends is None or self.count < self._ends

    def log(self) -> Sequence[str]:
        """As it was given."""
        return self._lines if self.count >= self._logged else ()


def wait(looks: Looks, seconds: float = 1e6) -> Sequence[str]:
    """What the wait for versions 1 and 2 gives."""
    return run.wait_until_available(looks, ServeOptions(versions=(1, 2)), seconds=seconds)


def test_it_waits_until_nothing_is_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older version that serves already is not the one that was asked for."""
    looks = Looks(
        monkeypatch,
        {},
        {1: "LOADING", 2: "START"},
        {1: "AVAILABLE", 2: "START"},
        {1: "AVAILABLE", 2: "LOADING"},
        {1: "AVAILABLE", 2: "AVAILABLE"},
    )
    assert wait(looks) == []
    # The last of these states twice.
    assert looks.count == 6


def test_a_version_that_failed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other one serves, its reason is given."""
    looks = Looks(monkeypatch, {1: "LOADING", 2: "END broken"}, {1: "AVAILABLE", 2: "END broken"})
    assert wait(looks) == ["version 2 of fashion_mnist cannot be loaded: broken"]
    assert looks.count == 3


def test_when_every_version_has_failed_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, however long --wait is."""
    looks = Looks(monkeypatch, {1: "LOADING", 2: "END broken"}, {1: "END too", 2: "END broken"})
    with pytest.raises(ServerEndedError) as raised:
        wait(looks)
    assert str(raised.value) == (
        "version 2 of fashion_mnist cannot be loaded: broken; version 1 of fashion_mnist cannot be loaded: too"
    )
    assert looks.count == 2


@pytest.mark.parametrize(
    ("code", "signalled", "ends_well"),
    [(0, True, True), (-15, True, True), (143, True, True), (-2, True, True), (130, True, True), (137, True, True),
     (-9, True, True), (1, True, False), (0, False, False)],
)  # fmt: skip
def test_how_a_server_that_was_asked_to_stop_may_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, signalled: bool, ends_well: bool
) -> None:
    """Well, or by the signal, as a process or as a container; anything else, and any end by itself, is a failure."""
    looks = Looks(monkeypatch, {1: "AVAILABLE"}, lines=[f"line {number}" for number in range(30)])
    stopped: list[str] = []

    class Process:
        """A server that ends with this code as soon as it serves."""

        serving = False

        def __init__(self, *_: object, **__: object) -> None:
            self.alive, self.log = looks.alive, looks.log

        def stop(self) -> None:
            stopped.append("asked")

        def wait(self) -> int:
            if signalled:
                signal.raise_signal(signal.SIGTERM)
            return code

    monkeypatch.setattr(run, "_Process", Process)
    before = signal.getsignal(signal.SIGTERM)
    ready: list[str] = []
    options = ServeOptions(backend="binary", versions=(1,))
    if ends_well:
        run.run_until_stopped(options, 10, lambda: ready.append("ready"))
        assert capsys.readouterr().err == ""
    else:
        with pytest.raises(ServerEndedError, match=rf"^the server ended with exit code {code}: line 29$"):
            run.run_until_stopped(options, 10, lambda: ready.append("ready"))
        assert capsys.readouterr().err == "".join(f"line {number}\n" for number in range(10, 30))
    assert ready == ["ready"]
    assert stopped == ["asked"] * signalled
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_usage_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it prints it, whatever its exit code; one that prints none is told with its last line."""
    program = "import sys; print('usage: x\\n  --port  '); print('first\\nlast', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(run, "usage_command", lambda _: [sys.executable, "-c", program])
    assert run.server_usage(ServeOptions()) == "usage: x\n  --port"
    monkeypatch.setattr(run, "usage_command", lambda _: [sys.executable, "-c", program.replace("usage", "help")])
    with pytest.raises(ServerEndedError, match=r"^the server prints no usage: last$"):
        run.server_usage(ServeOptions())


def test_versions_that_failed_are_notes_beside_one_that_serves(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    run.print_failures(["version 2 of m cannot be loaded: x", "version 1 of m cannot be loaded: y"])
    assert capsys.readouterr().err == (
        "Note: version 2 of m cannot be loaded: x\nNote: version 1 of m cannot be loaded: y\n"
    )


def test_what_the_log_says_of_a_failed_load_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the status has it: TF Serving calls such a version LOADING for minutes."""
    line = "Loading servable: {name: fashion_mnist version: 2} failed: NOT_FOUND: gone"
    looks = Looks(monkeypatch, {1: "AVAILABLE", 2: "LOADING"}, lines=[line])
    assert wait(looks) == ["version 2 of fashion_mnist cannot be loaded: NOT_FOUND: gone"]
    looks = Looks(monkeypatch, {2: "LOADING"}, lines=[line])
    with pytest.raises(ServerEndedError, match=r"^version 2 of fashion_mnist cannot be loaded: NOT_FOUND: gone$"):
        wait(looks)
    # A version that was unloaded has not failed.
    looks = Looks(monkeypatch, {1: "AVAILABLE", 2: "END"})
    assert wait(looks) == []


def test_the_wait_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the server said last."""
    looks = Looks(monkeypatch, {1: "LOADING", 2: "LOADING"}, lines=["first", "Loading, 3 of 4"])
    with pytest.raises(ServerEndedError) as raised:
        wait(looks, seconds=0.01)
    assert str(raised.value).startswith("fashion_mnist is not AVAILABLE after 0.01 s (--wait takes more): ")
    assert "Loading, 3 of 4" in str(raised.value)


def test_a_server_that_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its model was AVAILABLE a moment ago."""
    looks = Looks(monkeypatch, {1: "LOADING"}, {1: "AVAILABLE"}, ends=2, lines=["killed"])
    with pytest.raises(ServerEndedError, match=r"^the server ended before the model was AVAILABLE: killed$"):
        wait(looks)
    assert looks.count == 2


def test_a_complaint_that_comes_after_the_first_look_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are read beside the looks: a server that was quick to load has written it before."""
    lines = ["unknown argument: --bogus", "usage: server"]
    looks = Looks(monkeypatch, {1: "AVAILABLE", 2: "AVAILABLE"}, lines=lines, logged=2)
    with pytest.raises(ServeUsageError, match=r"does not take what comes after --: unknown argument: --bogus$"):
        wait(looks)


@pytest.mark.parametrize("ends", [1, None])
def test_usage_tells_of_a_wrong_flag_once_the_server_has_ended(
    monkeypatch: pytest.MonkeyPatch, ends: int | None
) -> None:
    """The reason is the line before it; a server that goes on may be about to say more."""
    looks = Looks(monkeypatch, {1: "AVAILABLE", 2: "AVAILABLE"}, ends=ends, lines=["bad port", "usage: server"])
    if ends is None:
        assert wait(looks) == []
    else:
        with pytest.raises(ServeUsageError, match=r"does not take what comes after --: bad port$"):
            wait(looks)


@pytest.mark.parametrize(
    ("line", "is_about_flags"),
    [
        ("usage: tensorflow_model_server", True),
        ("2026-01-02 03:04:05: --prot is no flag; --help lists the flags", True),
        ("E0102 main.cc:1] unknown argument: --bogus", True),
        ("2026-01-02 03:04:05: Couldn't interpret value x for flag port", True),
        ("2026-01-02 03:04:05: Running gRPC ModelServer", False),
    ],
)
def test_lines_about_flags_are_known(line: str, is_about_flags: bool) -> None:
    """Their reason is given by itself, so that pages of usage are not."""
    assert log.is_about_flags(line) is is_about_flags


def test_what_a_serving_server_prints_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All of its stdout, as it comes; what it logs is kept."""
    go = tmp_path / "go"
    program = f"""
import os, sys, time
print("first words", file=sys.stderr, flush=True)
while not os.path.exists({str(go)!r}): time.sleep(0.01)
print("one\\ntwo\\n\\nthree", flush=True)
"""
    monkeypatch.setattr(run, "BACKENDS", {"binary": lambda _: [sys.executable, "-c", program]})
    server = run._Process(ServeOptions(backend="binary"), show_log=False)
    server.serving = True
    go.touch()
    assert server.wait() == 0
    assert capfd.readouterr().out == "one\ntwo\n\nthree\n"
    assert server.log() == ["first words"]


def test_what_a_server_prints_at_its_end_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once it was asked to stop its stdout is kept for when it fails; asked again it is not signalled."""
    program = """
import signal, sys
def stop(number, _):
    print("asked to end", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
print("ready", file=sys.stderr, flush=True)
signal.pause()
"""
    monkeypatch.setattr(run, "BACKENDS", {"binary": lambda _: [sys.executable, "-c", program]})
    server = run._Process(ServeOptions(backend="binary"), show_log=False)
    wait_until(lambda: server.log() == ["ready"])
    assert server.alive()
    server.serving = True
    server.stop()
    assert server.wait() == 3
    assert not server.alive()
    server.stop()
    assert capfd.readouterr() == ("", "")
    assert server.log() == ["ready", "asked to end"]


@pytest.mark.parametrize("show_log", [True, False])
def test_what_is_shown_of_a_servers_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], show_log: bool
) -> None:
    """What is news to the user: not where it listens and what it loads at the start, nor pages of usage."""
    lines = [
        "Running gRPC ModelServer at 127.0.0.1:8500 ...", "Exporting HTTP/REST API at:127.0.0.1:8501 ...",
        "Exporting metrics at:x", "time Successfully loaded servable version {name: m version: 1}",
        "time Done unloading servable version {name: m version: 1}", "1 is served by litert: x",
        "1: 3 files are as signed with k", "Listening on 0.0.0.0 without TLS", "", "news", "usage: server", "  --port",
    ]  # fmt: skip
    program = f"import sys; print({chr(10).join(lines)!r}, file=sys.stderr)"
    monkeypatch.setattr(run, "BACKENDS", {"embedded": lambda _: [sys.executable, "-c", program]})
    server = run._Process(ServeOptions(backend="embedded"), show_log=show_log)
    assert server.wait() == 0
    assert capfd.readouterr() == ("", "\nnews\n" if show_log else "")
    assert server.log() == [line.strip() for line in lines[3:] if line]


def test_available_never_hides_a_wrong_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF Serving names it and goes on to serve: the log is read after the status, so that it has the flag's name."""
    lines: list[str] = []

    def states(*_: object) -> dict[int, dict[str, Any]]:
        lines[:] = ["unknown argument: --bogus_flag=3", "usage: tensorflow_model_server"]
        return {1: {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}}

    class Server:
        """One that serves between two looks at it."""

        def alive(self) -> bool:
            return True

        def log(self) -> Sequence[str]:
            return list(lines)

    monkeypatch.setattr(run, "version_states", states)
    with pytest.raises(ServeUsageError, match=r"unknown argument: --bogus_flag=3$"):
        run.wait_until_available(Server(), ServeOptions(), seconds=10)
