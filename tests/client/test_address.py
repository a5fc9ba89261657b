"""Server addresses by URL."""

from __future__ import annotations

import pytest

from client.address import ServerAddress
from client.errors import ClientUsageError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://localhost:8500", "grpc://localhost:8500"),
        ("grpc://example", "grpc://example:8500"),
        ("http://example", "http://example:8501"),
        ("http://example:80/", "http://example:80"),
        ("grpc://[::1]:9000", "grpc://[::1]:9000"),
    ],
)
def test_a_url_names_scheme_host_and_port(url: str, expected: str) -> None:
    """The port defaults to TF Serving's; IPv6 keeps its brackets."""
    assert str(ServerAddress.parse(url)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8500",
        "ftp://localhost",
        "grpc://",
        "grpc://host:port",
        "grpc://host:99999",
        "http://user:secret@host",
        "http://host/v1/models/m",
        "http://host?x=1",
        "",
    ],
)
def test_anything_else_is_refused_with_the_rule(url: str) -> None:
    """The message repeats the value and says what was expected."""
    with pytest.raises(ClientUsageError, match=r"is not a server address: expected grpc://HOST:PORT") as caught:
        ServerAddress.parse(url)
    assert str(caught.value).startswith(repr(url))
    assert caught.value.exit_code == 2
