"""What to say of a server that listens where others than this machine's users reach it."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def exposure(host: str, *, encrypted: bool, asks: bool) -> str:
    """A line for who starts it; empty where nothing is to be said. asks: for tokens or client certificates."""
    if is_loopback(host) or (encrypted and asks):
        return ""
    if asks:
        fault = "without TLS: tokens and all else can be read on the way"
    elif encrypted:
        fault = "without tokens or client certificates: whoever reaches it may ask"
    else:
        fault = "without TLS and tokens: whoever reaches it may ask, and all can be read on the way"
    return f"Listening on {host or 'all addresses'} {fault}"
