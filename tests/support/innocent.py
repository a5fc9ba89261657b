"""Innocent callers of a live server, in a process of their own, who time how long they wait for their answers.

`python -m tests.support.innocent GRPC REST` asks both ports all the time, over connections that it keeps and over new
ones. Each line on its stdin is answered by a line of JSON: what has been since the line before.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hpack

from tests.support import http2_peer as http2

PAUSE_SECONDS = 0.025
PATIENCE_SECONDS = 30
PATH = "/tensorflow.serving.PredictionService/Predict"
BODY = b'{"instances": [1.0, 2.0, 5.0]}'
REST = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: innocent\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


@dataclasses.dataclass
class Waits:
    """What the innocent callers saw: the longest waits in seconds, by API, and what was no right answer.

    late: by how much this process was late at most where it waited for nothing: the machine's part in the waits.
    """

    grpc: float = 0.0
    rest: float = 0.0
    late: float = 0.0
    answers: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


class WrongAnswerError(Exception):
    """An answer that is not what was asked for."""


class RefusedError(Exception):
    """An answer that says no."""


class Innocent:
    """The process with the callers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def waits(self) -> Waits:
        """What was since the last time; a call that is still waited for counts with what it has waited."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Waits(**json.loads(self._process.stdout.readline()))


@contextmanager
def innocent_callers(grpc: str, rest: str) -> Iterator[Innocent]:
    """Callers of half_plus_two on both ports."""
    command = [sys.executable, "-m", "tests.support.innocent", grpc, rest]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Innocent(process)
        finally:
            process.kill()


class _Record:
    """What all callers of the process note."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits = Waits()
        self._since: dict[str, float] = {}

    def begin(self, caller: str) -> None:
        self._since[caller] = time.monotonic()

    def end(self, caller: str, failure: str | None) -> float:
        """Notes how a call ended; how long it took."""
        with self._lock:
            seconds = time.monotonic() - self._since.pop(caller)
            self._note(caller, seconds)
            if failure is None:
                self._waits.answers += 1
            else:
                self._waits.failures.append(f"{caller}: {failure}")
        return seconds

    def watch(self) -> None:
        """Notes how late this process is woken."""
        while True:
            begin = time.monotonic()
            time.sleep(0.01)
            self._waits.late = max(self._waits.late, time.monotonic() - begin - 0.01)

    def take(self) -> Waits:
        with self._lock:
            for caller, since in self._since.copy().items():
                self._note(caller, time.monotonic() - since)
            waits, self._waits = self._waits, Waits()
        waits.failures = waits.failures[:20] + ([f"... {len(waits.failures)}"] if len(waits.failures) > 20 else [])
        return waits

    def _note(self, caller: str, seconds: float) -> None:
        api = "grpc" if caller.startswith("gRPC") else "rest"
        setattr(self._waits, api, max(getattr(self._waits, api), seconds))


class _RestCaller:
    """A connection to the REST port."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def ask(self) -> None:
        self._socket.sendall(REST)
        status = self._file.readline()
        length = 0
        while (line := self._file.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self._file.read(length)
        if not status:
            raise ConnectionError("ended without an answer")
        if not status.startswith(b"HTTP/1.1 200"):
            raise RefusedError(f"{status!r} {body[:200]!r}")
        rows = json.loads(body)["predictions"]
        if not all(row["y"] == x / 2 + row["bias"] for row, x in zip(rows, (1.0, 2.0, 5.0), strict=True)):
            raise WrongAnswerError(f"{body[:200]!r}")


class _GrpcCaller:
    """A connection to the gRPC port."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")
        self._request = request
        self._decoder = hpack.Decoder()
        self._number = -1
        self._socket.sendall(http2.PREFACE + http2.settings() + http2.window_update(0, 2**30))

    def ask(self) -> None:
        self._number += 2
        self._socket.sendall(http2.call(self._number, self._request, PATH))
        headers: dict[str, str] = {}
        data = b""
        while "grpc-status" not in headers:
            head = self._file.read(9)
            payload = self._file.read(int.from_bytes(head[:3], "big"))
            if len(head) < 9 or head[3] in (http2.GOAWAY, http2.RST_STREAM):
                raise ConnectionError(f"ended by frame {head!r} {payload[:100]!r}")
            if head[3] == http2.HEADERS:
                headers.update((str(name), str(value)) for name, value in self._decoder.decode(payload))
            elif head[3] == http2.DATA:
                data += payload
        if headers["grpc-status"] != "0":
            raise RefusedError(f"{headers}")
        check_grpc(data[5:])


def check_grpc(data: bytes) -> None:
    """Holds a PredictResponse against the version that it names: odd ones have a bias of 2, others of 3."""
    from serving.apis.messages import PredictResponse
    from serving.apis.tensors import make_ndarray

    response = PredictResponse.FromString(data)
    bias = 3 - response.model_spec.version.value % 2
    if make_ndarray(response.outputs["y"]).tolist() != [x / 2 + bias for x in (1.0, 2.0, 5.0)]:
        raise WrongAnswerError(f"{response}")


def grpc_request() -> bytes:
    """What the callers ask over gRPC."""
    from tests.support.asking import predict_request

    return predict_request("half_plus_two", {"x": [1.0, 2.0, 5.0]}, dtypes={"x": 1}).SerializeToString()


def call_for_ever(name: str, connect: Callable[[], _RestCaller | _GrpcCaller], record: _Record, *, keeps: bool) -> None:
    """One caller. keeps: its connection."""
    caller = None
    while True:
        record.begin(name)
        failure = None
        try:
            caller = caller or connect()
            caller.ask()
        except (OSError, WrongAnswerError, RefusedError, ValueError) as error:
            failure, keep = f"{type(error).__name__}: {error}", False
        else:
            keep = keeps
        if not keep and caller is not None:
            caller._file.close()
            caller._socket.close()
            caller = None
        seconds = record.end(name, failure)
        time.sleep(max(0.0, PAUSE_SECONDS - seconds))


def main() -> None:
    """Asks until it is killed."""
    request = grpc_request()

    def connect(address: str) -> socket.socket:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def grpc() -> _GrpcCaller:
        return _GrpcCaller(connect(sys.argv[1]), request)

    def rest() -> _RestCaller:
        return _RestCaller(connect(sys.argv[2]))

    record = _Record()
    threading.Thread(target=record.watch, daemon=True).start()
    for name, caller, keeps in (
        ("gRPC, kept connection", grpc, True),
        ("gRPC, new connections", grpc, False),
        ("REST, kept connection", rest, True),
        ("REST, new connections", rest, False),
    ):
        arguments = (name, caller, record)
        threading.Thread(target=call_for_ever, args=arguments, kwargs={"keeps": keeps}, daemon=True).start()
    for _ in sys.stdin:
        print(json.dumps(dataclasses.asdict(record.take())), flush=True)


if __name__ == "__main__":
    main()
