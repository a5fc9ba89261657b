"""Which callers may ask for what changes the server: those on its own machine, as far as their address tells.

A proxy on this machine passes on whoever reaches it: `--reload_from=nobody` and `--enable_profiler=false` are for that.
"""

from __future__ import annotations

import ipaddress

from serving.errors import PermissionDenied


def is_local(peer: str) -> bool:
    """Whether a peer (`ipv4:127.0.0.1:50514`, `ipv6:::1:50514`, `unix:`) is on this machine."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return True
    host = ipaddress.ip_address(address.rpartition(":")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return (mapped or host).is_loopback


def check_reload(peer: str, reload_from: str) -> None:
    """Raises PermissionDenied for a peer that --reload_from does not let reload."""
    if reload_from == "nobody" or (reload_from == "loopback" and not is_local(peer)):
        raise PermissionDenied(
            f"A reload is not answered to {peer.partition(':')[2] or peer}: --reload_from={reload_from}; "
            "edit --model_config_file instead, or start the server with --reload_from=anyone"
        )
