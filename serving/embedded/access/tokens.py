"""Bearer tokens (RFC 6750): who asks, and whether the method is theirs to ask for.

A token is hashed, and its digest is compared with that of every line, whether one has matched or not. Nothing is kept
by the token itself: a table of tokens seen before would hold secrets, and find them by comparisons that take longer the
more of them is right. A gRPC connection that repeats its headers has its last verdict again, which compares no bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256 as _sha256
from hmac import compare_digest as _are_equal
from pathlib import Path
from typing import NamedTuple

from fashion_common.errors import TokenFileError
from fashion_common.tokens import ADMIN, OWN_LINE_VARIABLE, PREDICT, READ, parse_entries
from serving.embedded.event_log import TOKENS_CHANGED, log_event
from serving.errors import PermissionDenied, ServerConfigError, ServingError, Unauthenticated

# What a method asks of its callers: one of these scopes. Everybody has the last.
_ANYONE = "anyone"
FOR_PREDICT, FOR_READ, FOR_ADMIN = frozenset({PREDICT}), frozenset({READ}), frozenset({ADMIN})
# The inputs of a model: without them nobody can form a request.
FOR_METADATA = FOR_PREDICT | FOR_READ
FOR_ANYONE = frozenset({_ANYONE})

_HEADER = b"authorization"
_SCHEME = b"bearer "


class Verdict(NamedTuple):
    """Whether a request may go on. caller: a token's name, "" where there is none. error: why not.

    challenge: what the error's `WWW-Authenticate` says (RFC 6750, section 3).
    """

    caller: str = ""
    error: ServingError | None = None
    challenge: str = ""


GRANTED = Verdict()


class _Bearer(NamedTuple):
    scopes: frozenset[str]
    granted: Verdict


class Tokens:
    """The tokens of a file, and of who has started this server. file: "" for those alone.

    Raises ServerConfigError for a file that cannot be followed.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        # `fashion serve` asks for the state of what it has started.
        self._own = parse_entries(os.environ.get(OWN_LINE_VARIABLE, ""), OWN_LINE_VARIABLE)
        # Another object after each change: what was found with the last one is void.
        self.entries = self._read()

    def reload(self) -> None:
        """Takes over what the file says now. Raises ServerConfigError, and nothing has changed then."""
        self.entries = self._read()
        log_event(TOKENS_CHANGED, file=self._file, tokens=len(self.entries) - len(self._own))

    def _read(self) -> list[tuple[bytes, _Bearer]]:
        try:
            text = Path(self._file).read_text(encoding="utf-8") if self._file else ""
            entries = [*parse_entries(text, self._file), *self._own]
            return [(entry.digest, _Bearer(entry.scopes, Verdict(entry.name))) for entry in entries]
        except (OSError, UnicodeDecodeError) as error:
            raise ServerConfigError(f"--token_file: {self._file} cannot be read: {error}") from error
        except TokenFileError as error:
            raise ServerConfigError(f"--token_file: {error}") from error

    def verdict(self, scopes: frozenset[str], headers: Mapping[bytes, bytes]) -> Verdict:
        """On a request with these headers, by lower-case name, for a method that asks for one of these scopes."""
        if _ANYONE in scopes:
            return GRANTED
        value = headers.get(_HEADER)
        if value is None:
            text = "The request has no token: send the header authorization: Bearer TOKEN"
            return Verdict(error=Unauthenticated(text), challenge="Bearer")
        entry = None
        if value[: len(_SCHEME)].lower() == _SCHEME:
            digest = _sha256(value[len(_SCHEME) :].strip(b" ")).digest()
            for own_digest, own in self.entries:
                if _are_equal(own_digest, digest):
                    entry = own
        if entry is None:
            text = "The request's token is not known here: is it this server's, and was it not withdrawn?"
            return Verdict(error=Unauthenticated(text), challenge='Bearer error="invalid_token"')
        if not scopes.isdisjoint(entry.scopes):
            return entry.granted
        name, wanted = entry.granted.caller, sorted(scopes)
        own_scopes = " and ".join(sorted(entry.scopes))
        text = f"The token of {name} has the scope {own_scopes}, and this method wants {' or '.join(wanted)}"
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(wanted)}"'
        return Verdict(name, PermissionDenied(text), challenge)


class Gate(NamedTuple):
    """What stands before a method: whose tokens, and one of which scopes."""

    tokens: Tokens
    scopes: frozenset[str]


class LastVerdict:
    """The last verdict on a connection, which holds for the same headers and scopes until the tokens change.

    Headers are the same when they are the same object: a client's header block that repeats is decoded once.
    """

    __slots__ = ("_entries", "_headers", "_scopes", "_verdict")

    def __init__(self) -> None:
        self._entries: object = None
        self._headers: Mapping[bytes, bytes] = {}
        self._scopes = FOR_ANYONE
        self._verdict = GRANTED

    def at(self, gate: Gate, headers: Mapping[bytes, bytes]) -> Verdict:
        """As `Tokens.verdict`."""
        tokens, scopes = gate
        entries = tokens.entries
        if headers is not self._headers or scopes is not self._scopes or entries is not self._entries:
            self._verdict = tokens.verdict(scopes, headers)
            self._headers, self._scopes, self._entries = headers, scopes, entries
        return self._verdict
