"""Clients of the gRPC port: one that sends whatever bytes it is told, and one that keeps HTTP/2's rules.

Both talk through a pipe: to a connection in memory, or over a socket (`tests/support/http2_server.py` has them).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32
ACK = 1


class Frame(NamedTuple):
    """A frame as it was read."""

    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or a GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload, "big")


class Answer(NamedTuple):
    """What a call was answered: the headers with the trailers, and the messages' bytes. reset: the code, or None."""

    headers: dict[str, str]
    data: bytes
    reset: int | None = None

    @property
    def status(self) -> int:
        """gRPC's status."""
        return int(self.headers["grpc-status"])


def frame(kind: int, flags: int = 0, number: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, number) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(number: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, number, increment.to_bytes(4, "big"))


def message(data: bytes, flag: int = 0) -> bytes:
    """A length-prefixed message."""
    return struct.pack(">BI", flag, len(data)) + data


def request(path: str = "/t/Echo", /, **changed: str | None) -> list[tuple[str, str]]:
    """A request's headers. changed: replaced, added or, by None, left out; `_` is `-`, a first `_` is `:`."""
    fields: dict[str, str | None] = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    for name, value in changed.items():
        fields[(":" + name[1:] if name.startswith("_") else name).replace("_", "-")] = value
    return [(name, value) for name, value in fields.items() if value is not None]


def block(headers: Sequence[tuple[str, str]]) -> bytes:
    """A header block that uses no dynamic table."""
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in headers], huffman=False))


def begin(number: int, path: str = "/t/Echo", /, **changed: str | None) -> bytes:
    """The HEADERS frame of a call whose messages are to come."""
    return frame(HEADERS, END_HEADERS, number, block(request(path, **changed)))


def call(number: int, data: bytes = b"", path: str = "/t/Echo", /, **changed: str | None) -> bytes:
    """The frames of a whole unary call."""
    return begin(number, path, **changed) + frame(DATA, END_STREAM, number, message(data))


def reset(number: int, code: int = 8) -> bytes:
    """A RST_STREAM frame, by CANCEL where nothing else is said."""
    return frame(RST_STREAM, 0, number, code.to_bytes(4, "big"))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))


class Pipe(Protocol):
    """The way to a server."""

    @property
    def ended(self) -> bool:
        """Whether the server has said its last word, and all of it was received."""

    def send(self, data: bytes) -> None:
        """Sends bytes."""

    def receive(self) -> bytes:
        """The next bytes; none when the server has ended or, in memory, says nothing."""


class Peer:
    """A client that sends whatever it is told, and reads frames. pairs: its SETTINGS. greets: sends them by itself."""

    def __init__(self, pipe: Pipe, *pairs: tuple[int, int], greets: bool = True) -> None:
        self._pipe = pipe
        self._unread = bytearray()
        self._decoder = hpack.Decoder()
        if greets:
            self.send(PREFACE, settings(*pairs))
            assert self.read().kind == SETTINGS
            assert self.read().kind == WINDOW_UPDATE
            assert self.read() == Frame(SETTINGS, ACK, 0, b"")

    def send(self, *frames: bytes) -> None:
        """Sends bytes."""
        self._pipe.send(b"".join(frames))

    def read_bytes(self, count: int) -> bytes:
        """So many of the next bytes, or fewer at their end."""
        while len(self._unread) < count and (data := self._pipe.receive()):
            self._unread += data
        data = bytes(self._unread[:count])
        del self._unread[:count]
        return data

    def read(self) -> Frame:
        """The next frame."""
        head = self.read_bytes(9)
        assert len(head) == 9, "nothing more comes"
        length_and_kind, flags, number = struct.unpack(">IBI", head)
        return Frame(length_and_kind & 0xFF, flags, number, self.read_bytes(length_and_kind >> 8))

    def rest(self) -> list[Frame]:
        """All frames that are to be read: in memory those that the server has sent, else until it ends."""
        while data := self._pipe.receive():
            self._unread += data
        frames = []
        while self._unread:
            frames.append(self.read())
        return frames

    def is_closed(self) -> bool:
        """Whether the end comes, and nothing before it."""
        return self.read_bytes(1) == b"" and self._pipe.ended

    def until(self, kind: int, number: int = 0) -> Frame:
        """The next frame of a kind on a stream; others are passed over."""
        while True:
            following = self.read()
            if following.kind == HEADERS and (kind, number) != (HEADERS, following.number):
                self._decoder.decode(following.payload)
            if (following.kind, following.number) == (kind, number):
                return following
            assert following.kind != GOAWAY, (following.code, following.payload[8:])

    def goaway(self) -> Frame:
        """The GOAWAY that comes next of its kind; after it the server closes."""
        last = self.until(GOAWAY)
        assert self.is_closed()
        return last

    def until_goaway(self) -> Frame:
        """The next GOAWAY, whatever comes before it."""
        while (following := self.read()).kind != GOAWAY:
            pass
        return following

    def headers(self, headers: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame."""
        return {str(name): str(value) for name, value in self._decoder.decode(headers.payload)}

    def answer(self, number: int) -> Answer:
        """A stream's answer, read to its end."""
        headers: dict[str, str] = {}
        data = b""
        while True:
            following = self.read()
            assert following.kind != GOAWAY, (following.code, following.payload[8:])
            fields = self.headers(following) if following.kind == HEADERS else {}
            if following.number != number:
                continue
            if following.kind == RST_STREAM:
                return Answer(headers, data, following.code)
            headers.update(fields)
            data += following.payload if following.kind == DATA else b""
            if following.kind in {HEADERS, DATA} and following.flags & END_STREAM:
                return Answer(headers, data)


class Client:
    """A client that keeps the rules, and finds fault with a server that does not: h2's. changed: its SETTINGS."""

    def __init__(self, pipe: Pipe, **changed: int) -> None:
        self._pipe = pipe
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({getattr(h2.settings.SettingCodes, name): value for name, value in changed.items()})
        self.flush()
        while not any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.receive()):
            pass

    def flush(self) -> None:
        """Sends what is to be sent."""
        self._pipe.send(self.h2.data_to_send())

    def begin(self, data: bytes, path: str = "/t/Echo", /, **changed: str | None) -> int:
        """Sends a unary call; its stream."""
        number = int(self.h2.get_next_available_stream_id())
        self.h2.send_headers(number, request(path, **changed))
        for piece in pieces(message(data), self.h2.max_outbound_frame_size):
            self.flush()
            while self.h2.local_flow_control_window(number) < len(piece):
                self.receive()
            self.h2.send_data(number, piece)
        self.h2.end_stream(number)
        self.flush()
        return number

    def receive(self) -> list[h2.events.Event]:
        """The events of what comes next."""
        data = self._pipe.receive()
        assert data, "nothing more comes"
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return list(events)

    def answer(self, number: int) -> Answer:
        """A stream's answer."""
        headers: dict[str, str] = {}
        data = bytearray()
        while True:
            for event in self.receive():
                if getattr(event, "stream_id", None) != number:
                    continue
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    headers.update((str(name), str(value)) for name, value in event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                elif isinstance(event, h2.events.StreamReset):
                    return Answer(headers, bytes(data), int(event.error_code))
                elif isinstance(event, h2.events.StreamEnded):
                    return Answer(headers, bytes(data))

    def ask(self, data: bytes, path: str = "/t/Echo", /, **changed: str | None) -> Answer:
        """A unary call and its answer."""
        return self.answer(self.begin(data, path, **changed))
