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
        ("grpcs://example", "grpcs://example:8500", "example:8500"),
        ("grpcs://example:443", "grpcs://example:443", "example:443"),
        ("http://example", "http://example:8501", "example:8501"),
        ("https://example", "https://example:8501", "example:8501"),
        ("https://example:443/", "https://example:443", "example:443"),
        ("http://example:0", "http://example:0", "example:0"),
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
    ("url", "why"),
    [
        ("localhost:8500", ""),
        ("ftp://localhost", ""),
        ("grpc://", ""),
        ("grpc://host:port", " (Port could not be cast to integer value as 'port')"),
        ("grpc://host:99999", " (Port out of range 0-65535)"),
        ("http://user:secret@host", "; credentials belong in --header"),
        ("http://host/v1/models/m", ", without the path /v1/models/m: the client adds what the API has"),
        ("http://host/prefix/v1", ", without the path /prefix/v1: the client adds what the API has"),
        ("grpc://host/prefix", ", without the path /prefix: the client adds what the API has"),
        ("http://host?x=1", ""),
        ("http://host#x", ""),
        ("unix://relative/path", ""),
        ("unix:relative", ""),
        ("/run/model.sock", ""),
        ("", ""),
    ],
)
def test_anything_else_is_refused_with_the_rule(url: str, why: str) -> None:
    """The message repeats the value, and says what was expected and what is wrong."""
    with pytest.raises(ClientUsageError) as excinfo:
        ServerAddress.parse(url)
    assert str(excinfo.value) == (
        f"{url!r} is not a server address: expected grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT, "
        f"https://HOST:PORT or unix:///PATH{why}"
    )
    assert excinfo.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "endpoint", "is_local"),
    [
        ("grpc://127.0.0.1:9000", ("127.0.0.1", 9000), True),
        ("http://[::1]", ("::1", 8501), True),
        ("https://localhost:443", ("localhost", 443), True),
        ("grpcs://192.0.2.1", ("192.0.2.1", 8500), False),
        ("http://localhost.example", ("localhost.example", 8501), False),
    ],
)
def test_an_address_has_a_host_and_a_port(url: str, endpoint: tuple[str, int], is_local: bool) -> None:
    """IPv6 without its brackets; this machine is known by its name and by its loopback's numbers."""
    address = ServerAddress.parse(url)
    assert (address.endpoint, address.is_local) == (endpoint, is_local)
