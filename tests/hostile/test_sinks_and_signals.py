"""The reader and the disk of the log fail, descriptors run out, or signals come: callers notice little or nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from serving.apis import services
from serving.apis.messages import ReloadConfigRequest
from tests.hostile.attacks import address
from tests.hostile.attacks.bodies import post
from tests.hostile.attacks.crowd import Crowd
from tests.hostile.grounds import raise_descriptors
from tests.support.asking import call, predict
from tests.support.innocent import Waits, innocent_callers
from tests.support.live import Server, free_port, running, wait_until
from tests.support.workers import is_listening, workers_of

pytestmark = pytest.mark.alone

SMALL = post(b'{"instances":[1.0]}')
LONGEST_WAIT_SECONDS = 0.5
WITH_1024_DESCRIPTORS = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
runpy.run_module("serving.embedded", run_name="__main__")
"""


def waits_of(server: Server, seconds: float) -> Waits:
    """What innocent callers see for some seconds."""
    with innocent_callers(server.grpc, server.rest) as innocent:
        innocent.waits()
        time.sleep(seconds)
        return innocent.waits()


def assert_unharmed(waits: Waits) -> None:
    """All answers are right, and none was late."""
    assert waits.answers > 0
    assert not waits.failures
    assert max(waits.grpc, waits.rest) - waits.late <= LONGEST_WAIT_SECONDS, waits


def test_a_full_disk_under_the_access_log_costs_no_answer(flags: Sequence[str]) -> None:
    """/dev/full takes no byte."""
    with Path("/dev/full").open("wb") as full, running(*flags, "--access_log", stdout=full) as server:
        assert_unharmed(waits_of(server, 2))


def test_an_access_log_that_nobody_reads_costs_no_answer(flags: Sequence[str]) -> None:
    """The pipe is full after some hundred calls."""
    with running(*flags, "--access_log", stdout=subprocess.PIPE) as server:
        ask_often(server, 1000)
        assert_unharmed(waits_of(server, 2))


def ask_often(server: Server, count: int) -> None:
    """So many requests over one REST connection."""
    with socket.create_connection(address(server.rest), timeout=10) as connection:
        answers = connection.makefile("rb")
        for _ in range(count):
            connection.sendall(SMALL)
            read_answer(answers)


def read_answer(answers: object) -> tuple[bytes, bytes, bytes]:
    """The status line, the headers in lower case and the body; empty when the connection has ended."""
    readline, read = answers.readline, answers.read  # type: ignore[attr-defined]
    status, headers = readline(), b""
    while (line := readline()) not in (b"\r\n", b""):
        headers += line.lower()
    length = next((int(line.split(b":")[1]) for line in headers.splitlines() if line.startswith(b"content-length")), 0)
    return status, headers, read(length)


def test_sigterm_resets_no_busy_client(flags: Sequence[str]) -> None:
    """48 clients that ask without a pause get an answer to all that they have sent."""
    outcomes: list[str] = []

    def ask(server: Server) -> None:
        try:
            with socket.create_connection(address(server.rest), timeout=20) as connection:
                answers = connection.makefile("rb")
                while True:
                    connection.sendall(SMALL)
                    status, headers, _ = read_answer(answers)
                    if not status.startswith(b"HTTP/1.1 200"):
                        outcomes.append(f"{status!r} instead of an answer")
                        return
                    if b"connection: close" in headers:
                        outcomes.append("closed")
                        return
        except OSError as error:
            outcomes.append(f"{error!r}")

    with running(*flags) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(48)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.process.wait(20) == 0
    assert set(outcomes) == {"closed"}, outcomes


def test_more_silent_connections_than_descriptors(flags: Sequence[str]) -> None:
    """`ulimit -n 1024` and 1,300 connections to the REST port: both ports go on, and the log says who had to go."""
    raise_descriptors()
    with running(*flags, program=("-c", WITH_1024_DESCRIPTORS)) as server:
        crowd = Crowd(address(server.rest))
        with contextlib.closing(crowd):
            for _ in range(13):
                crowd.fill(len(crowd) + 100)
                crowd.pump()
            assert_unharmed(waits_of(server, 2))
            crowd.pump()
            assert 400 < len(crowd) < 1024
        log = server.log.read_text()
    assert "connections turned away, the last of 127.0." in log
    assert "connections wait to be accepted" not in log


def test_a_worker_that_is_stopped(flags: Sequence[str]) -> None:
    """Callers of the other one notice nothing; its own get an end, not silence, once it is taken for dead."""
    ports = f"--port={free_port()}", f"--rest_api_port={free_port()}"
    with running(*flags, *ports, "--workers=2", "--worker_timeout_seconds=2") as server:
        connections = [socket.create_connection(address(server.rest), timeout=60) for _ in range(32)]
        answers = [connection.makefile("rb") for connection in connections]
        for connection, reader in zip(connections, answers, strict=True):
            connection.sendall(SMALL)
            assert read_answer(reader)[0].startswith(b"HTTP/1.1 200")
        workers = workers_of(server.process.pid)
        others = [is_of(connection, workers[1]) for connection in connections]
        assert {True, False} == set(others)

        os.kill(workers[0], signal.SIGSTOP)
        for connection, reader, is_other in zip(connections, answers, others, strict=True):
            if is_other:
                begin = time.monotonic()
                connection.sendall(SMALL)
                assert read_answer(reader)[0].startswith(b"HTTP/1.1 200")
                assert time.monotonic() - begin < LONGEST_WAIT_SECONDS
        for connection, reader, is_other in zip(connections, answers, others, strict=True):
            if not is_other:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(SMALL)
                    assert read_answer(reader)[0] == b""
            connection.close()
        wait_until(lambda: sum(map(is_listening, workers_of(server.process.pid))) == 2)
        assert_unharmed(waits_of(server, 1))
        assert "worker 0 gave no sign of life for --worker_timeout_seconds=2: it is killed" in server.log.read_text()


def is_of(connection: socket.socket, pid: int) -> bool:
    """Whether a process has the other end of a connection."""
    peers = {each.raddr for each in psutil.Process(pid).net_connections("tcp") if each.raddr}
    return connection.getsockname() in peers


def test_a_reload_from_elsewhere_changes_and_tells_nothing(flags: Sequence[str], toys: Path) -> None:
    """Only the server's own machine may hand in a configuration, and none may name a foreign path."""
    elsewhere = own_address()
    if elsewhere is None:
        pytest.skip("this machine has no address beside the loopback")
    with running(*flags, "--host=0.0.0.0") as server:
        port = address(server.grpc)[1]
        with grpc.insecure_channel(f"{elsewhere}:{port}") as far, grpc.insecure_channel(f"127.0.0.1:{port}") as near:
            for channel, base in ((far, str(toys / "half_plus_two")), (far, "/proc"), (near, "/proc")):
                request = ReloadConfigRequest()
                model = request.config.model_config_list.config.add()
                model.name, model.base_path, model.model_platform = "half_plus_two", base, "tensorflow"
                with pytest.raises(grpc.RpcError) as error:
                    call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
                assert error.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)
                # What is below /proc is not told.
                assert "self" not in str(error.value.details())
            assert predict(near, "half_plus_two", {"x": np.array([2.0], np.float32)})["y"].tolist() == [4.0]


def own_address() -> str | None:
    """An address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Nothing is sent.
        except OSError:
            return None
        name = str(probe.getsockname()[0])
    return None if name.startswith("127.") else name
