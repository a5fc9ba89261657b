"""`fashion token`: the token once, and its line for the server."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.cli import fashion
from fashion_common.tokens import parse_entries


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    result = CliRunner().invoke(fashion, ["token", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_token_is_printed_alone_and_the_line_beside_it() -> None:
    """On stdout and on stderr; the line has the digest."""
    code, token, text = run("ann", "--scope", "read", "--scope", "predict")
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    assert (code, text) == (0, f"The line for the server's --token_file:\nann {digest} predict,read\n")


def test_the_line_is_appended_to_a_file(tmp_path: Path) -> None:
    """Which is its owner's alone when it is new, keeps what it has, and never has the token."""
    file = tmp_path / "tokens"
    _, first, text = run("ann", "--scope", "predict", "--file", str(file))
    assert (text, stat.S_IMODE(file.stat().st_mode)) == ("", 0o600)
    file.write_text(f"# Ours\n{file.read_text().rstrip()}")
    code, output, _ = run("bob", "--scope", "admin", "--file", str(file), "--json")
    second = json.loads(output)
    assert code == 0
    assert file.read_text().startswith("# Ours\nann ")
    entries = parse_entries(file.read_text(), "tokens")
    assert [(entry.name, entry.digest) for entry in entries] == [
        (name, hashlib.sha256(token.encode()).digest())
        for name, token in (("ann", first.strip()), ("bob", second["token"]))
    ]
    assert second | {"token": ""} == {"name": "bob", "scopes": ["admin"], "token": "", "line": entries[1].line}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["a b", "--scope", "read"], 2, "'a b' is no name: letters, digits and . _ @ -, 64 at most"),
        (["ann"], 2, "Missing option '--scope'"),
        (["ann", "--scope", "root"], 2, "'root' is not one of 'predict', 'read', 'admin'"),
        (["ann", "--scope", "read", "--file", "/none/tokens"], 1, "/none/tokens cannot be written: "),
    ],
)
def test_what_cannot_be_done(arguments: list[str], code: int, text: str) -> None:
    """Nothing is printed that looks like a token."""
    result = run(*arguments)
    assert result[:2] == (code, "")
    assert text in result[2]


def test_a_file_with_a_wrong_line_is_left_as_it_is(tmp_path: Path) -> None:
    """It may be no file of tokens at all."""
    file = tmp_path / "tokens"
    file.write_text("hello\n")
    code, output, text = run("ann", "--scope", "read", "--file", str(file))
    assert (code, output, file.read_text()) == (2, "", "hello\n")
    assert f"{file}:1: 1 words, where NAME SHA256" in text


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    """A new file is never anybody else's."""
    mask = os.umask(0)
    try:
        run("ann", "--scope", "read", "--file", str(tmp_path / "tokens"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "tokens").stat().st_mode) == 0o600


def test_json_is_one_object(tmp_path: Path) -> None:
    """In one line; the scopes in the order that they were given in, the line's own as the file has them."""
    code, output, text = run("ann", "--scope", "read", "--scope", "predict", "--json")
    report = json.loads(output)
    assert (code, output) == (0, json.dumps(report) + "\n")
    digest = hashlib.sha256(report["token"].encode()).hexdigest()
    line = f"ann {digest} predict,read"
    assert report == {"name": "ann", "scopes": ["read", "predict"], "token": report["token"], "line": line}
    assert text == f"The line for the server's --token_file:\n{line}\n"
    assert output != run("ann", "--scope", "read", "--scope", "predict", "--json")[1]


@pytest.mark.parametrize(("before", "between"), [("", ""), ("# Ours\n", ""), ("# Ours", "\n"), ("\n", "")])
def test_a_line_begins_where_a_line_begins(tmp_path: Path, before: str, between: str) -> None:
    """And ends with its end: in an empty file, behind a whole line, and behind one that has no end."""
    file = tmp_path / "tokens"
    file.write_text(before)
    file.chmod(0o640)
    code, token, _ = run("ann", "--scope", "read", "--file", str(file))
    digest = hashlib.sha256(token.strip().encode()).hexdigest()
    assert (code, file.read_text()) == (0, f"{before}{between}ann {digest} read\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_file_that_is_no_text_is_left_as_it_is(tmp_path: Path) -> None:
    """It is named; a directory is none either."""
    file = tmp_path / "tokens"
    file.write_bytes(b"\xff\n")
    code, output, text = run("ann", "--scope", "read", "--file", str(file))
    assert (code, output, file.read_bytes()) == (1, "", b"\xff\n")
    assert text.startswith(f"Error: {file} cannot be written: 'utf-8' codec can't decode byte 0xff")
    assert run("ann", "--scope", "read", "--file", str(tmp_path))[0] == 2


def test_a_line_is_on_the_disk_when_the_token_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the token can rely on it, whatever becomes of the machine."""
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.pread(descriptor, 1000, 0)))
    code, token, _ = run("ci", "--scope", "predict", "--file", str(tmp_path / "tokens"))
    assert code == 0
    (content,) = synced
    assert content == (tmp_path / "tokens").read_bytes()
    assert hashlib.sha256(token.strip().encode()).hexdigest() in content.decode()
