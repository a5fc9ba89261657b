"""What OpenSSL says when a server wants the client's certificate."""

from __future__ import annotations

import ssl

import pytest

from client.transports.diagnosis import _wants_certificate


@pytest.mark.parametrize(
    ("reason", "wants"),
    [("TLSV13_ALERT_CERTIFICATE_REQUIRED", True), ("SSLV3_ALERT_HANDSHAKE_FAILURE", False), (None, False)],
)
def test_only_the_alert_for_it_asks_for_a_certificate(reason: str | None, wants: bool) -> None:
    """Whether the server sends it depends on the version of TLS, and on how quick it is to close the connection."""
    error = ssl.SSLError(1, "an alert")
    error.reason = reason  # type: ignore[assignment]  # it is None without one
    assert _wants_certificate(error) is wants
