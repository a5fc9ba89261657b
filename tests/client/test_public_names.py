"""What `from client import ...` offers."""

from __future__ import annotations

import pytest

import client


@pytest.mark.parametrize("name", client.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Its module is imported when the name is first used."""
    assert getattr(client, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'client' has no attribute 'nonsense'"):
        _ = client.nonsense
