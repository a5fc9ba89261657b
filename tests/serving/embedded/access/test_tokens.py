"""Bearer tokens: whom they let in, and the file that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_common.tokens import OWN_LINE_VARIABLE, entry, new_token
from serving.apis.status import Code
from serving.embedded.access.tokens import FOR_ANYONE, FOR_METADATA, FOR_PREDICT, FOR_READ, Gate, LastVerdict, Tokens
from serving.errors import PermissionDenied, ServerConfigError, Unauthenticated

LINE = entry("ann", "secret", ["predict"]).line


def tokens(tmp_path: Path, text: str) -> Tokens:
    """Those of a file with this text."""
    file = tmp_path / "tokens"
    file.write_text(text)
    return Tokens(str(file))


def verdict(tokens: Tokens, header: bytes | None, scopes: frozenset[str] = FOR_PREDICT) -> tuple[str, Code, str]:
    """Caller, code and challenge for a request with this authorization."""
    caller, error, challenge = tokens.verdict(scopes, {} if header is None else {b"authorization": header})
    return caller, Code.OK if error is None else error.code, challenge


def test_each_scope_lets_its_bearer_do_what_it_names_alone(tmp_path: Path) -> None:
    """A method that asks for one of several takes each of them; what is open asks for nothing."""
    lines = [entry(scope, scope, [scope]).line for scope in ("predict", "read", "admin")]
    both = tokens(tmp_path, "\n".join(["# Who may ask", "", *lines, entry("both", "both", ["admin", "read"]).line]))
    assert verdict(both, b"Bearer predict") == ("predict", Code.OK, "")
    assert verdict(both, b"bearer   both", FOR_READ) == ("both", Code.OK, "")
    assert verdict(both, b"Bearer both")[:2] == ("both", Code.PERMISSION_DENIED)
    names = ("predict", "read", "admin")
    codes = {name: verdict(both, f"Bearer {name}".encode(), FOR_METADATA)[1].name for name in names}
    assert codes == {"predict": "OK", "read": "OK", "admin": "PERMISSION_DENIED"}
    for header in (None, b"Bearer nobody's", b"Bearer predict"):
        assert verdict(both, header, FOR_ANYONE) == ("", Code.OK, "")


@pytest.mark.parametrize(
    "header",
    [b"Bearer other", b"Bearer", b"Bearer ", b"Basic secret", b"secret", b"Bearer secret x", b"Bearer \xff", b""],
)
def test_what_is_no_token_of_the_file_is_nobodys(tmp_path: Path, header: bytes) -> None:
    """RFC 6750, section 3.1: invalid_token where something was sent, no error where nothing was."""
    own = tokens(tmp_path, LINE)
    assert verdict(own, header) == ("", Code.UNAUTHENTICATED, 'Bearer error="invalid_token"')
    assert verdict(own, None) == ("", Code.UNAUTHENTICATED, "Bearer")
    assert verdict(own, b"Bearer secret") == ("ann", Code.OK, "")


def test_a_missing_scope_is_named(tmp_path: Path) -> None:
    """To whoever asks, and in the challenge."""
    refused = tokens(tmp_path, LINE).verdict(FOR_READ, {b"authorization": b"Bearer secret"})
    assert refused.caller == "ann"
    assert str(refused.error) == "The token of ann has the scope predict, and this method wants read"
    assert refused.challenge == 'Bearer error="insufficient_scope", scope="read"'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "ann secret",
            ":1: 2 words, where NAME SHA256 SCOPE[,SCOPE] is expected: `fashion token NAME` prints the line",
        ),
        (f"#\n\nan/n {LINE[4:]}", ":3: the name is letters, digits and . _ @ -, 64 at most"),
        (f"{'a' * 65} {LINE[4:]}", ":1: the name is letters, digits and . _ @ -, 64 at most"),
        ("ann fashion_secret read", ":1: the second word of ann is no SHA-256 in 64 hexadecimal digits"),
        (f"{LINE},root", ":1: ann has scopes other than predict, read, admin, joined by commas"),
        (f"{LINE}\nbob {LINE[4:]}", ":2: the token of bob is in another line too: remove one"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_repeated(tmp_path: Path, text: str, error: str) -> None:
    """It may hold a token."""
    with pytest.raises(ServerConfigError) as raised:
        tokens(tmp_path, text)
    assert str(raised.value) == f"--token_file: {tmp_path / 'tokens'}{error}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It is named, with the reason."""
    with pytest.raises(ServerConfigError, match=r"--token_file: .*none cannot be read: .*No such file"):
        Tokens(str(tmp_path / "none"))


def test_a_file_that_is_wrong_after_a_change_changes_nothing(tmp_path: Path) -> None:
    """One without lines is right, and lets nobody in."""
    own = tokens(tmp_path, f"{LINE} # since 2026\n{'a' * 64} {LINE[4:].replace('7', '8')}")
    for text, code in (("ann", Code.OK), ("# nobody", Code.UNAUTHENTICATED), (LINE, Code.OK)):
        (tmp_path / "tokens").write_text(text)
        if text == "ann":
            with pytest.raises(ServerConfigError):
                own.reload()
        else:
            own.reload()
        assert verdict(own, b"Bearer secret")[1] == code


def test_a_connection_has_its_last_verdict_again_for_the_same_headers(tmp_path: Path) -> None:
    """And for the same scopes, until the tokens change: to look again makes another refusal."""
    own, last = tokens(tmp_path, LINE), LastVerdict()
    headers, others = {b"authorization": b"Bearer secret"}, {b"authorization": b"Bearer other"}
    assert last.at(Gate(own, FOR_PREDICT), headers).caller == "ann"
    refused = last.at(Gate(own, FOR_READ), headers)
    assert isinstance(refused.error, PermissionDenied)
    assert last.at(Gate(own, FOR_READ), headers) is refused
    assert last.at(Gate(own, FOR_READ), dict(headers)) is not refused
    assert isinstance(last.at(Gate(own, FOR_READ), others).error, Unauthenticated)
    assert last.at(Gate(own, FOR_PREDICT), headers).error is None
    (tmp_path / "tokens").write_text("# nobody")
    own.reload()
    assert isinstance(last.at(Gate(own, FOR_PREDICT), headers).error, Unauthenticated)


def test_a_connection_that_has_asked_for_nothing_has_no_verdict(tmp_path: Path) -> None:
    """Its first request is looked at, without headers too."""
    assert isinstance(LastVerdict().at(Gate(tokens(tmp_path, LINE), FOR_PREDICT), {}).error, Unauthenticated)


def test_one_more_line_comes_from_who_starts_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fashion serve` asks for the state of what it has started."""
    monkeypatch.setenv(OWN_LINE_VARIABLE, entry("fashion-serve", "own", ["read"]).line)
    assert verdict(tokens(tmp_path, LINE), b"Bearer own", FOR_READ) == ("fashion-serve", Code.OK, "")


def test_tokens_differ_and_can_be_recognised() -> None:
    """By scanners for secrets; 256 bits each."""
    assert all(
        len(token) == len("fashion_") + 43 and token.startswith("fashion_") for token in (new_token(), new_token())
    )
    assert new_token() != new_token()
