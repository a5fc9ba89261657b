"""The header that tells which runtime serves each version."""

from __future__ import annotations

import pytest

from serving.apis.runtimes import header_value, read_header


def test_what_is_written_is_read() -> None:
    """The newest version first."""
    assert header_value({1: "tensorflow", 12: "litert"}) == "12=litert,1=tensorflow"
    assert read_header("12=litert,1=tensorflow") == {1: "tensorflow", 12: "litert"}
    assert header_value({}) == ""


def test_of_many_versions_the_newest() -> None:
    """No client's limit of headers is met."""
    value = header_value(dict.fromkeys(range(10**18, 10**18 + 1000), "tensorflow"))
    assert len(value) < 4096
    assert min(read_header(value)) == 10**18 + 900


@pytest.mark.parametrize("value", ["", "litert", "x=litert", "1=", f"{'1' * 20}=litert", "\u0661=litert"])
def test_what_is_no_such_header_tells_nothing(value: str) -> None:
    """Another server may send anything under this name."""
    assert read_header(value) == {}
