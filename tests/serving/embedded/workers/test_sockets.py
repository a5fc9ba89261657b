"""The sockets of the ports: alone or shared with other processes."""

from __future__ import annotations

import socket

import pytest

from serving.embedded.workers.sockets import Port
from serving.errors import ServerConfigError


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_port_listens(host: str, family: socket.AddressFamily, *, shared: bool) -> None:
    """It may be opened again at once when the server has gone; other processes have it too where it is shared."""
    with Port(host, 0, shared).listen("REST") as listener:
        assert (listener.family, listener.type) == (family, socket.SOCK_STREAM)
        options = (socket.SO_ACCEPTCONN, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        assert [bool(listener.getsockopt(socket.SOL_SOCKET, option)) for option in options] == [True, True, shared]
        with socket.create_connection(listener.getsockname()[:2]):
            listener.accept()[0].close()


def test_processes_share_a_port_only_when_they_are_told_to() -> None:
    """The error says which port, for which API, and why; the socket is closed."""
    with Port("127.0.0.1", 0, shared=True).listen("REST") as listener:
        number = listener.getsockname()[1]
        Port("127.0.0.1", number, shared=True).listen("REST").close()
        with pytest.raises(ServerConfigError) as raised:
            Port("127.0.0.1", number).listen("gRPC")
    assert str(raised.value) == (
        f"127.0.0.1:{number} cannot be listened on for gRPC: [Errno 98] Address already in use"
    )


def test_a_host_that_is_none() -> None:
    """It cannot be listened on either."""
    with pytest.raises(ServerConfigError, match=r"no\.such\.host\.invalid:0 cannot be listened on for REST: "):
        Port("no.such.host.invalid", 0).listen("REST")
