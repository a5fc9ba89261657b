"""Addresses such as `s3://bucket/models`: told from paths, and what comes from there printed without harm."""

from __future__ import annotations

import re

# A user's name and password, and what follows a URL's `?`, which may be a signature.
_SECRETS = re.compile(r"(?<=://)[^/@\s'\"]*@|(?<=\?)[^\s'\"]*(?<![:,.)])")


def is_address(text: str) -> bool:
    """Whether it is an address with a protocol, and no path."""
    return "://" in text


def without_secrets(text: str) -> str:
    """A text whose addresses have no user, password or query, which may be a signature."""
    return _SECRETS.sub("", text)


def printable(text: str, most: int = 200) -> str:
    """A text from elsewhere in one line: what would move a terminal's cursor, or cannot be encoded, is escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )[:most]
