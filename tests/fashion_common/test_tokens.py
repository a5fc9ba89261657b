"""The lines of a token file: what is read, what is written, and what is refused without a word of it."""

from __future__ import annotations

import hashlib

import pytest

from fashion_common.errors import TokenFileError
from fashion_common.tokens import Entry, entry, parse_entries

DIGEST = hashlib.sha256(b"secret").hexdigest()


def test_a_line_says_who_may_do_what() -> None:
    """Scopes in their own order, whatever order they were given in; what is written is what is read."""
    made = entry("ann", "secret", ["admin", "predict"])
    assert made == Entry("ann", bytes.fromhex(DIGEST), frozenset({"predict", "admin"}))
    assert made.line == f"ann {DIGEST} predict,admin"
    assert parse_entries(made.line, "tokens") == [made]


def test_comments_and_blank_lines_say_nothing() -> None:
    """Also behind an entry; digests may be written in capital letters."""
    other = "0" * 64
    text = f"# who may ask\n\n  ann\t{DIGEST.upper()}   predict # since May\nbob {other} read,admin\n#bob x\n"
    assert parse_entries(text, "tokens") == [
        entry("ann", "secret", ["predict"]),
        Entry("bob", bytes(32), frozenset({"read", "admin"})),
    ]
    assert parse_entries("", "tokens") == []


@pytest.mark.parametrize("name", ["a", "7", "a" * 64, "A.b_c@d-e"])
def test_what_a_name_may_be(name: str) -> None:
    """A letter or a digit, then 63 more of them or of . _ @ -."""
    assert [each.name for each in parse_entries(f"{name} {DIGEST} read", "tokens")] == [name]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (f"{'a' * 65} {DIGEST} read", "the name is letters, digits and . _ @ -, 64 at most"),
        (f".a {DIGEST} read", "the name is letters, digits and . _ @ -, 64 at most"),
        (f"ann {DIGEST[1:]} read", "the second word of ann is no SHA-256 in 64 hexadecimal digits"),
        (f"ann {DIGEST}0 read", "the second word of ann is no SHA-256 in 64 hexadecimal digits"),
        (f"ann {DIGEST} read,", "ann has scopes other than predict, read, admin, joined by commas"),
        (f"ann {DIGEST} write", "ann has scopes other than predict, read, admin, joined by commas"),
        (
            f"ann {DIGEST} read admin",
            "4 words, where NAME SHA256 SCOPE[,SCOPE] is expected: `fashion token NAME` prints the line",
        ),
        (f"first {DIGEST} admin", "the token of first is in another line too: remove one"),
    ],
)
def test_a_line_that_is_none_is_told_by_its_number(line: str, error: str) -> None:
    """And by the file's name; an error of who started the server."""
    with pytest.raises(TokenFileError) as raised:
        parse_entries(f"zero {DIGEST} predict\n\n{line}\n", "tokens")
    assert (str(raised.value), raised.value.exit_code) == (f"tokens:3: {error}", 2)
