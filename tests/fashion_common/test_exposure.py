"""Which hosts others than this machine's users reach."""

from __future__ import annotations

import socket

import pytest

from fashion_common.exposure import exposure, is_loopback


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("a" * 64, False)],
)
def test_the_loopback_is_this_machines_own(host: str, loopback: bool) -> None:
    """A name that cannot be looked up may be anybody's."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("addresses", "loopback"),
    [(["127.0.0.1", "::1"], True), (["127.0.0.1", "10.0.0.1"], False), (["fe80::1%eth0"], False)],
)
def test_a_name_is_the_loopbacks_when_all_its_addresses_are(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], loopback: bool
) -> None:
    """An address may name its network interface."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: infos)
    assert is_loopback("name") is loopback


def test_a_name_that_is_not_found_may_be_anybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to end either."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not is_loopback("nowhere")


def test_an_empty_host_is_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told so."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("0.0.0.0", 0))])
    assert exposure("", encrypted=True, asks=False) == (
        "Listening on all addresses without tokens or client certificates: whoever reaches it may ask"
    )
