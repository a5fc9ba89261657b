"""Malformed HTTP is refused with a status, and never answered as if it were right (RFC 9112, RFC 1952)."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator, Sequence

import pytest

from tests.hostile.attacks import address
from tests.hostile.attacks.bodies import MODEL
from tests.hostile.test_sinks_and_signals import read_answer
from tests.support.live import Server, running

BODY = b'{"instances":[1.0]}'
PACKED = gzip.compress(BODY)
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"13\r\n" + BODY + b"\r\n0\r\n\r\n"
HOST = b"Host: a\r\n"
LINE = f"POST {MODEL} HTTP/1.1\r\n".encode()
REFUSED = {
    "no Host": LINE + LENGTH + b"\r\n" + BODY,
    "two Hosts": LINE + HOST + HOST + LENGTH + b"\r\n" + BODY,
    "two different Hosts": LINE + HOST + b"Host: b\r\n" + LENGTH + b"\r\n" + BODY,
    "two lengths": LINE + HOST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
    "a length with a sign": LINE + HOST + b"Content-Length: +19\r\n\r\n" + BODY,
    "a length of two values": LINE + HOST + b"Content-Length: 19, 3\r\n\r\n" + BODY,
    "a length of hex digits": LINE + HOST + b"Content-Length: 0x13\r\n\r\n" + BODY,
    "a negative length": LINE + HOST + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length and chunks": LINE + HOST + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "a coding twice": LINE + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "a coding that is not known": LINE + HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunks not last": LINE + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "a blank before the colon": LINE + HOST + b"Content-Length : 19\r\n\r\n" + BODY,
    "a folded header": LINE + HOST + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "a header without a name": LINE + HOST + b": a\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a header": LINE + HOST + b"X: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "a bare CR in a header": LINE + HOST + b"X: a\rY: b\r\n" + LENGTH + b"\r\n" + BODY,
    "a chunk size with a sign": LINE + HOST + CHUNKED + b"\r\n+13\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": LINE + HOST + CHUNKED + b"\r\n10000000000000013\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk longer than it says": LINE + HOST + CHUNKED + b"\r\n12\r\n" + BODY + b"\r\n0\r\n\r\n",
    "HTTP/1.1 in lower case": LINE.replace(b"HTTP", b"http") + HOST + LENGTH + b"\r\n" + BODY,
    "HTTP/9.9": LINE.replace(b"1.1", b"9.9") + HOST + LENGTH + b"\r\n" + BODY,
    "truncated gzip": LINE + HOST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (len(PACKED) - 4)
    + PACKED[:-4],
    "gzip with a wrong checksum": LINE + HOST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
    + PACKED[:-8] + bytes(8),
    "gzip with more behind it": LINE + HOST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    % (len(PACKED) + 4) + PACKED + b"more",
    "no gzip": LINE + HOST + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(flags: Sequence[str]) -> Iterator[Server]:
    """A server of one model."""
    with running(*flags) as running_server:
        yield running_server


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str, server: Server) -> None:
    """By 400 or a status that says more; what follows it is not taken for a request."""
    with socket.create_connection(address(server.rest), timeout=10) as connection:
        connection.sendall(REFUSED[name])
        connection.shutdown(socket.SHUT_WR)
        reader = connection.makefile("rb")
        status, *_ = read_answer(reader)
        assert status[9:12] in (b"400", b"411", b"415", b"501", b"505"), status
        assert b"HTTP/1.1 200" not in reader.read()


def test_the_right_form_of_these_is_answered(server: Server) -> None:
    """Else the refusals above would prove nothing."""
    right = [
        LINE + HOST + LENGTH + b"\r\n" + BODY,
        LINE + HOST + CHUNKED + b"\r\n" + CHUNKS,
        LINE + HOST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
        LINE.replace(b"POST ", b"POST http://a") + HOST + LENGTH + b"\r\n" + BODY,
        LINE + HOST + LENGTH + b"Expect: 100-continue\r\n\r\n" + BODY,
    ]
    for request in right:
        with socket.create_connection(address(server.rest), timeout=10) as connection:
            connection.sendall(request)
            reader = connection.makefile("rb")
            status, *_ = read_answer(reader)
            if status.startswith(b"HTTP/1.1 100"):
                status, *_ = read_answer(reader)
            assert status.startswith(b"HTTP/1.1 200"), (request, status)
