"""The system's clock may jump: deadlines, limits of time, polls and loads go by the monotonic one."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

import serving
from serving.embedded.flags import Flags
from serving.embedded.inference.model import LoadedModel
from serving.embedded.server import ModelServer
from tests.support.fakes import FakeServable
from tests.support.live import wait_until

WALL_CLOCK = re.compile(
    r"\btime\.(time|time_ns|ctime|asctime|gmtime|localtime|strftime|clock_gettime)\b|\.(now|utcnow|today)\("
    r"|from (time|datetime) import|CLOCK_REALTIME"
)
# What tells the time, and the age of files, which jumps do not harm: test_arrivals.py.
ALLOWED = {
    "apis/recording_files.py", "apis/recordings.py", "embedded/models/arrivals.py", "embedded/observe/access_log.py",
    "embedded/models/storage.py", "embedded/observe/recording.py", "embedded/observe/telemetry.py",
    "embedded/rest/protocol.py",
}  # fmt: skip


def test_who_reads_the_systems_clock() -> None:
    """The access log, the Date header, records and spans, which say what it says, and who looks at files' times."""
    root = Path(serving.__file__).parent
    readers = {
        str(file.relative_to(root)): WALL_CLOCK.findall(file.read_text())
        for file in root.rglob("*.py")
        if WALL_CLOCK.search(file.read_text())
    }
    assert readers.keys() == ALLOWED
    assert all(len(uses) == 1 for uses in readers.values()), readers


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0], ids=["forward", "back"])
def test_the_systems_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """An idle connection stays, headers that do not come have as long as ever, and a new version is loaded."""
    publish(tmp_path, 1)
    server = ModelServer(
        Flags(
            port=0,
            rest_api_port=0,
            model_name="m",
            model_base_path=str(tmp_path),
            header_timeout_seconds=3,
            shutdown_grace_seconds=1,
            file_system_poll_wait_seconds=0.1,
        ),
        lambda name, number, _: LoadedModel(name, number, FakeServable(number)),
    )
    address = server.start().rest
    assert address
    try:
        host, _, port = address.rpartition(":")
        with contextlib.closing(HTTPConnection(address)) as kept, socket.create_connection((host, int(port))) as half:
            assert states(kept) == {"1": "AVAILABLE"}
            # It is not opened again.
            kept.auto_open = 0
            begin = time.monotonic()
            half.sendall(b"GET / HTTP/1.1\r\n")

            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() + jump)
            publish(tmp_path, 2)

            assert half.recv(100).startswith(b"HTTP/1.1 408 ")
            assert 2.5 < time.monotonic() - begin < 30
            wait_until(lambda: states(kept).get("2") == "AVAILABLE")
    finally:
        server.stop()


def publish(base: Path, number: int) -> None:
    """A version that is there to be loaded."""
    (base / str(number)).mkdir()
    (base / str(number) / "saved_model.pb").touch()


def states(connection: HTTPConnection) -> dict[str, str]:
    """Of the versions of the model."""
    connection.request("GET", "/v1/models/m")
    versions = json.load(connection.getresponse())["model_version_status"]
    return {version["version"]: version["state"] for version in versions}
