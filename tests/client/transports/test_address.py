"""Server addresses by URL."""

from __future__ import annotations

import pytest

from client.errors import ClientUsageError
from client.transports.address import ServerAddress


@pytest.mark.parametrize(
    ("url", "expected", "target"),
    [
        ("grpc://localhost:8500", "grpc://localhost:8500", "localhost:8500"),
        ("grpc://example", "grpc://example:8500", "example:8500"),
        ("grpcs://example:443", "grpcs://example:443", "example:443"),
        ("http://example", "http://example:8501", "example:8501"),
        ("https://example:443/", "https://example:443", "example:443"),
        ("grpc://[::1]:9000", "grpc://[::1]:9000", "[::1]:9000"),
        ("http://example:80/models/", "http://example:80/models", "example:80"),
        ("unix:///run/model.sock", "unix:///run/model.sock", "unix:///run/model.sock"),
    ],
)
def test_a_url_names_scheme_and_target(url: str, expected: str, target: str) -> None:
    """The port defaults to TF Serving's; IPv6 keeps its brackets; a UNIX socket is its path."""
    address = ServerAddress.parse(url)
    assert (str(address), address.target) == (expected, target)
    assert address.is_rest == url.startswith("http")
    assert address.is_secure == url.startswith(("grpcs", "https"))


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
        "http://host/prefix/v1",
        "grpc://host/prefix",
        "http://host?x=1",
        "unix://relative/path",
        "",
    ],
)
def test_anything_else_is_refused_with_the_rule(url: str) -> None:
    """The message repeats the value and says what was expected."""
    with pytest.raises(ClientUsageError, match=r"is not a server address: expected grpc://HOST:PORT") as excinfo:
        ServerAddress.parse(url)
    assert str(excinfo.value).startswith(repr(url))
    assert excinfo.value.exit_code == 2
