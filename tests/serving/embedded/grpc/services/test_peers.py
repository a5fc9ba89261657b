"""Who may ask for what changes the server."""

from __future__ import annotations

import pytest

from serving.embedded.grpc.services.peers import check_reload, is_local
from serving.errors import PermissionDenied

LOCAL = ["unix:", "unix:/tmp/socket", "ipv4:127.0.0.1:1", "ipv4:127.9.9.9:1", "ipv6:::1:1", "ipv6:::ffff:127.0.0.1:1"]
REMOTE = ["ipv4:10.0.0.7:1", "ipv6:2001:db8::1:1", "ipv6:::ffff:10.0.0.7:1"]


@pytest.mark.parametrize("peer", LOCAL + REMOTE)
def test_who_is_on_this_machine(peer: str) -> None:
    """By the address, mapped ones too, or by a UNIX socket."""
    assert is_local(peer) == (peer in LOCAL)


@pytest.mark.parametrize("peer", LOCAL + REMOTE)
def test_who_may_reload(peer: str) -> None:
    """Nobody, who is on this machine, or anyone."""
    check_reload(peer, "anyone")
    if peer in LOCAL:
        check_reload(peer, "loopback")
    else:
        with pytest.raises(PermissionDenied):
            check_reload(peer, "loopback")
    with pytest.raises(PermissionDenied) as raised:
        check_reload(peer, "nobody")
    assert str(raised.value) == (
        f"A reload is not answered to {peer.partition(':')[2] or peer}: --reload_from=nobody; edit "
        "--model_config_file instead, or start the server with --reload_from=anyone"
    )
