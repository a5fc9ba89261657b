"""Bearer tokens of a server, and the file that tells it of them: it holds digests, never a token.

A line is `NAME SHA256 SCOPE[,SCOPE]`; what follows a # and blank lines say nothing. A token is 256 random bits, so its
digest needs no salt, and no slow hash: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from typing import NamedTuple

from fashion_common.errors import TokenFileError

# A scope lets its bearer do what it names, and nothing else: `admin` alone predicts nothing.
PREDICT, READ, ADMIN = SCOPES = ("predict", "read", "admin")
# What scanners for secrets find a token by.
PREFIX = "fashion_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# Where a server that `fashion serve` starts finds one more line.
OWN_LINE_VARIABLE = "FASHION_SERVING_TOKEN_LINE"
_BYTES = 32
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class Entry(NamedTuple):
    """Who may do what. digest: SHA-256 of the token, 32 bytes."""

    name: str
    digest: bytes
    scopes: frozenset[str]

    @property
    def line(self) -> str:
        """As the file has it, without the line's end."""
        return f"{self.name} {self.digest.hex()} {','.join(scope for scope in SCOPES if scope in self.scopes)}"


def new_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def entry(name: str, token: str, scopes: Collection[str]) -> Entry:
    """What the file says of a token."""
    return Entry(name, hashlib.sha256(token.encode()).digest(), frozenset(scopes))


def parse_entries(text: str, source: str) -> list[Entry]:
    """The entries of a file; `source` names it in errors. Raises TokenFileError, with the number of the line."""
    entries: list[Entry] = []
    for number, line in enumerate(text.splitlines(), 1):
        if fields := line.partition("#")[0].split():
            try:
                entry = _entry(fields)
            except ValueError as error:
                raise TokenFileError(f"{source}:{number}: {error}") from error
            if any(entry.digest == other.digest for other in entries):
                raise TokenFileError(f"{source}:{number}: the token of {entry.name} is in another line too: remove one")
            entries.append(entry)
    return entries


def _entry(fields: list[str]) -> Entry:
    """Raises ValueError, whose text repeats nothing that may be a token."""
    if len(fields) != len(Entry._fields):
        raise ValueError(
            f"{len(fields)} words, where NAME SHA256 SCOPE[,SCOPE] is expected: `fashion token NAME` prints the line"
        )
    name, digest, scopes = fields
    if not NAME.fullmatch(name):
        raise ValueError("the name is letters, digits and . _ @ -, 64 at most")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"the second word of {name} is no SHA-256 in 64 hexadecimal digits")
    names = scopes.split(",")
    if not set(names) <= set(SCOPES):
        raise ValueError(f"{name} has scopes other than {', '.join(SCOPES)}, joined by commas")
    return Entry(name, bytes.fromhex(digest), frozenset(names))
