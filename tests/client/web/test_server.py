"""The page on a socket: where it listens, what it is called, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest

from client.errors import ClientUsageError
from client.transports.security import Security
from client.web import server
from tests.support.live import free_port, wait_until

_ENDS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize(
    ("port", "error"),
    [
        (None, "192.0.2.1:0 {}: --host takes an address of this machine"),
        (0, "192.0.2.1:0 {}: --host takes an address of this machine"),
        (8502, "192.0.2.1:8502 {}: --port 0 takes a free one"),
    ],
)
def test_an_address_of_another_machine_is_refused(port: int | None, error: str) -> None:
    """With the option that would help."""
    with pytest.raises(ClientUsageError) as raised:
        server.listen("192.0.2.1", port)
    assert str(raised.value) == error.format("cannot be listened on: Cannot assign requested address")


def test_the_default_port_is_taken_where_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though connections of the last page linger there."""
    assert server.PORT == 8502
    port = free_port()
    monkeypatch.setattr(server, "PORT", port)
    with server.listen("127.0.0.1", None) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        with server.listen("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]"),
     ("shop.example", "shop.example")],
)  # fmt: skip
def test_the_address_is_one_for_a_browser(host: str, name: str) -> None:
    """What listens on all addresses is found on the loopback; IPv6 has brackets."""
    with server.listen("127.0.0.1", 0) as listener:
        assert server.url(listener, host) == f"http://{name}:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("number", _ENDS)
def test_it_serves_until_it_is_told_and_leaves_signals_as_they_were(number: int) -> None:
    """The socket is closed; answers do not say which software gave them."""
    handlers = [signal.getsignal(each) for each in _ENDS]
    listener = server.listen("127.0.0.1", 0)
    answers: list[dict[str, str]] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(server.url(listener, "127.0.0.1"), timeout=10) as answer:  # noqa: S310 - http
                answers.append({name.lower(): value for name, value in answer.headers.items()})
        finally:
            os.kill(os.getpid(), number)

    browser = threading.Thread(target=ask)
    browser.start()
    server.run(listener, "127.0.0.1", ["grpc://127.0.0.1:1"], "m", 1.0, Security())
    browser.join()
    assert [signal.getsignal(each) for each in _ENDS] == handlers
    assert listener.fileno() == -1
    [headers] = answers
    assert "server" not in headers
    assert headers["content-type"] == "text/html; charset=utf-8"


def test_one_connection_beyond_63_is_refused_at_once() -> None:
    """Those that ask nothing count."""
    listener = server.listen("127.0.0.1", 0)
    codes: list[int] = []

    def ask() -> int:
        try:
            with urllib.request.urlopen(server.url(listener, "127.0.0.1"), timeout=10) as answer:  # noqa: S310 - http
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def ask_in_company() -> None:
        try:
            with ExitStack() as stack:
                for count in (62, 1):
                    for _ in range(count):
                        silent = stack.enter_context(socket.create_connection(listener.getsockname(), 10))
                        # So that it is seen to be there.
                        silent.sendall(b"GET ")
                    codes.append(ask())
            wait_until(lambda: ask() == 200)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    browsers = threading.Thread(target=ask_in_company)
    browsers.start()
    server.run(listener, "127.0.0.1", ["grpc://127.0.0.1:1"], "m", 1.0, Security())
    browsers.join()
    assert codes == [200, 503]


def test_an_address_that_is_none_ends_it_at_once() -> None:
    """Signals and the socket are as after any other end."""
    handlers = [signal.getsignal(each) for each in _ENDS]
    listener = server.listen("127.0.0.1", 0)
    with pytest.raises(ClientUsageError, match="'nowhere' is not a server address"):
        server.run(listener, "127.0.0.1", ["nowhere"], "m", 1.0, Security())
    assert [signal.getsignal(each) for each in _ENDS] == handlers
    assert listener.fileno() == -1
