"""TLS that begins and does not go on: callers beside it notice little."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.hostile.attacks import address
from tests.hostile.grounds import longest_wait, raise_descriptors
from tests.serving.embedded.test_tls import write_config
from tests.support.http2_peer import PREFACE, settings
from tests.support.live import running

pytestmark = pytest.mark.alone

GREETINGS = 3000
ROUNDS = 3


def test_thousands_of_greetings_hold_up_no_new_caller(tmp_path: Path, flags: list[str]) -> None:
    """Each would have the server sign, and none goes on: a caller who comes later is served before them."""
    authority = trustme.CA()
    raise_descriptors()
    with running(*flags, f"--ssl_config_file={write_config(tmp_path, authority)}") as server:
        host, port = address(server.grpc)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.set_alpn_protocols(["h2"])
        say_hello(context, host, port)
        greeting = greeting_of(context)
        waits = []
        for _ in range(ROUNDS):
            with crowd(host, port) as connections:
                for connection in connections:
                    connection.sendall(greeting)
                begin = time.monotonic()
                say_hello(context, host, port)
                waits.append(time.monotonic() - begin)
        assert min(waits) <= longest_wait(), waits


def say_hello(context: ssl.SSLContext, host: str, port: int) -> None:
    """A handshake, and HTTP/2's first frames."""
    with socket.create_connection((host, port), 10) as connection:
        connection.settimeout(30)
        with context.wrap_socket(connection, server_hostname="127.0.0.1") as encrypted:
            encrypted.sendall(PREFACE + settings())
            assert encrypted.recv(9)


def greeting_of(context: ssl.SSLContext) -> bytes:
    """A ClientHello."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def crowd(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Connections, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, port), 10)) for _ in range(GREETINGS)]
