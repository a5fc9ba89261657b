"""What the commands' options take, and what their help says of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from client.cli import fashion
from client.transports.fake import FakeTransport
from client.transports.security import Security
from client.types import ModelSpec
from tests.support.client_commands import NOBODY, answering

_CONCURRENCY = {"--concurrency": "default: 4; 1<=x<=256"}
_BATCHES = {"--batch-size": "default: 256; x>=1"}
_RATE = {"--rate": "0<x<=100000", "--arrivals": "default: constant"}
_SIGNATURE = {"--signature": "default: serving_default"}
_SERVERS = {
    "--server": "env var: FASHION_SERVER",
    "--model-name": "default: fashion_mnist",
    "--timeout": "default: 10.0",
}
_CONNECTION = {"--model-version": "x>=0", **_SERVERS}


@pytest.mark.parametrize(
    ("command", "brackets"),
    [
        ("token", {"--scope": "required"}),
        (
            "predict",
            {
                "--top-k": "default: 1; 1<=x<=10",
                "--signature": "serving_default, or encoded_images over REST",
                "--preprocess": "default: auto",
                "--format": "default: as --output ends (.json, .jsonl, .csv), else table",
                **_BATCHES,
                **_CONCURRENCY,
                **_CONNECTION,
            },
        ),
        (
            "web",
            {
                "--host": "default: 127.0.0.1",
                "--port": "0<=x<=65535",
                "--open": "default: where there is a desktop",
                **_SERVERS,
            },
        ),
        ("call", {**_SIGNATURE, "--method": "default: as the metadata say", **_CONCURRENCY, **_CONNECTION}),
        ("status", {"--wait": "x>=0", **_CONNECTION}),
        ("metadata", _CONNECTION),
        (
            "evaluate",
            {
                "--data-dir": "default: $FASHION_MNIST_DIR, data/fashion-mnist, or as prepared",
                **_SIGNATURE,
                "--limit": "x>=1",
                **_BATCHES,
                **_CONCURRENCY,
                **_CONNECTION,
            },
        ),
        (
            "bench",
            {
                **_CONCURRENCY,
                "--batch-size": "default: 1; x>=1",
                **_RATE,
                "--duration": "default: 5.0; x>=0.1",
                "--warm-up": "default: 1.0; x>=0",
                **_SIGNATURE,
                **_CONNECTION,
            },
        ),
        ("replay", {**_CONCURRENCY, "--speed": "x>0", **_RATE, "--limit": "x>=1", **_CONNECTION}),
        (
            "compare",
            {
                "--data-dir": "default: as in fashion evaluate",
                "--baseline": "default: stable",
                "--candidate": "default: canary",
                "--duration": "default: 1.0; x>=0",
                **_SIGNATURE,
                "--preprocess": "default: auto",
                **_BATCHES,
                **_CONCURRENCY,
                **_SERVERS,
            },
        ),
        ("explain", {"--preprocess": "default: auto", **_SIGNATURE, **_CONNECTION}),
        ("doctor", {**_SIGNATURE, **_CONNECTION}),
    ],
)
def test_help_says_what_an_option_takes_and_is_without_it(command: str, brackets: dict[str, str]) -> None:
    """Defaults, ranges and what is required, of every option that has any; the shared ones are the same everywhere."""
    context = click.Context(fashion)
    found: dict[str, str] = {}
    for option in fashion.get_command(context, command).params:  # type: ignore[union-attr]
        if isinstance(option, click.Option) and (record := option.get_help_record(context)):
            text = re.search(r"  \[([^\[]*)\]$", record[1])
            found |= {max(option.opts, key=len): text[1]} if text else {}
    assert found == brackets


@pytest.mark.parametrize(
    ("command", "option", "value", "range_text"),
    [
        (["predict", "a.png"], "--top-k", "0", "1<=x<=10"),
        (["predict", "a.png"], "--top-k", "11", "1<=x<=10"),
        (["predict", "a.png"], "--batch-size", "0", "x>=1"),
        (["predict", "a.png"], "--concurrency", "0", "1<=x<=256"),
        (["predict", "a.png"], "--concurrency", "257", "1<=x<=256"),
        (["predict", "a.png"], "--model-version", "-1", "x>=0"),
        (["bench"], "--batch-size", "0", "x>=1"),
        (["bench"], "--duration", "0.09", "x>=0.1"),
        (["bench"], "--warm-up", "-0.1", "x>=0"),
        (["compare", "a.png"], "--duration", "-0.1", "x>=0"),
        (["evaluate"], "--limit", "0", "x>=1"),
        (["evaluate"], "--batch-size", "0", "x>=1"),
        (["replay", "/dev/null"], "--limit", "0", "x>=1"),
        (["status"], "--wait", "-0.1", "x>=0"),
        (["web"], "--port", "65536", "0<=x<=65535"),
        (["web"], "--port", "-1", "0<=x<=65535"),
    ],
)
def test_a_value_out_of_its_range_is_refused(command: list[str], option: str, value: str, range_text: str) -> None:
    """With the range, before anything is read or sent."""
    result = CliRunner().invoke(fashion, [*command, "--server", NOBODY, option, value])
    assert (result.exit_code, result.stdout) == (2, "")
    error = rf"Error: Invalid value for '{option}': {value}\S* is not in the range {re.escape(range_text)}\.\n"
    assert re.search(error, result.stderr)


@pytest.mark.parametrize("command", ["predict", "replay", "explain", "token"])
def test_what_a_command_is_about_must_be_named(command: str) -> None:
    """Pictures, recordings, a picture, a name."""
    result = CliRunner().invoke(fashion, [command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(r"\nError: Missing argument '\S+'\.\n$", result.stderr)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["bench"], "--data"),
        (["bench"], "--save-figure"),
        (["predict", "a.png"], "--output"),
        (["predict", "a.png"], "--record"),
        (["predict", "a.png"], "--save-figure"),
        (["explain", "a.png"], "--output"),
        (["compare", "a.png"], "--html"),
        (["call"], "--output"),
        (["call"], "--inputs"),
        (["status"], "--token-file"),
        (["status"], "--tls-ca"),
        (["status"], "--tls-certificate"),
        (["status"], "--tls-key"),
    ],
)
def test_a_directory_is_no_file(command: list[str], option: str) -> None:
    """Neither to read nor to write."""
    result = CliRunner().invoke(fashion, [*command, "--server", NOBODY, option, "/"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: Invalid value for '{option}': File '/' is a directory.\n" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_file_is_no_directory(command: str, tmp_path: Path) -> None:
    """Of the test set's files."""
    file = tmp_path / "file"
    file.touch()
    options = ["--test-set"] if command == "compare" else []
    result = CliRunner().invoke(fashion, [command, *options, "--server", NOBODY, "--data-dir", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: Invalid value for '--data-dir': Directory '{file}' is a file.\n" in result.stderr


@pytest.mark.parametrize(
    ("command", "options", "model"),
    [
        ("status", [], ModelSpec("fashion_mnist")),
        ("status", ["--model-name", "m", "--model-version", "0"], ModelSpec("m", 0)),
        ("metadata", ["--version-label", "stable"], ModelSpec("fashion_mnist", None, "stable")),
    ],
)
def test_a_connection_is_what_the_options_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, options: list[str], model: ModelSpec
) -> None:
    """Servers, model and version, deadline, security; the file with the token comes before its variable."""
    file, token = tmp_path / "ca.pem", tmp_path / "token"
    file.touch()
    token.write_text(" abc\n")
    monkeypatch.setenv("FASHION_TOKEN", " other\n")
    asked: list[dict[str, Any]] = []
    fashion_command = answering(monkeypatch, FakeTransport(), asked=asked)
    servers = ["--server", "grpcs://a", "--server", "http://b"]
    tls = ["--tls-ca", file, "--tls-certificate", file, "--tls-key", file, "--tls-server-name", "name"]
    header = ["--header", "X-A=b", "--header", "c=d=e"]
    for extra, given in ((["--token-file", token], "abc"), ([], "other")):
        asked.clear()
        result = fashion_command(command, *options, *servers, *tls, *header, "--timeout", "2.5", *extra)
        assert result.exit_code == 0, result.output
        security = Security(file, file, file, "name", (("x-a", "b"), ("c", "d=e")), given)
        assert asked == [
            {"servers": ("grpcs://a", "http://b"), "model": model, "timeout": 2.5, "security": security, "retry": True}
        ]
    asked.clear()
    monkeypatch.delenv("FASHION_TOKEN")
    assert fashion_command(command).exit_code == 0
    expected = {"servers": (), "model": ModelSpec(), "timeout": 10.0, "security": Security(), "retry": True}
    assert asked == [expected]


def test_a_signature_that_is_named_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By each command that asks for predictions."""
    np.save(tmp_path / "a.npy", np.zeros((1, 28, 28), np.uint8))
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    fashion_command = answering(monkeypatch, FakeTransport())
    for command in (["predict", tmp_path / "a.npy"], ["explain", tmp_path / "a.png"], ["bench"], ["doctor"],
                    ["compare", tmp_path / "a.npy"]):  # fmt: skip
        result = fashion_command(*command, "--signature", "other")
        assert result.exit_code != 0
        assert "fashion_mnist has no signature 'other': it has serving_default (--signature)" in result.output


@pytest.mark.parametrize(
    ("suffix", "is_taken"), [(".PNG", True), (".svg", True), (".pdf", True), (".jpg", False), ("", False)]
)
def test_a_figures_name_ends_as_figures_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, is_taken: bool
) -> None:
    """Whatever its case; another one is refused before any work is done."""
    path = tmp_path / f"figure{suffix}"
    transport = FakeTransport()
    np.save(tmp_path / "a.npy", np.zeros((1, 28, 28), np.uint8))
    result = answering(monkeypatch, transport)("predict", tmp_path / "a.npy", "--save-figure", path)
    assert (result.exit_code, path.exists(), len(transport.asked)) == ((0, True, 1) if is_taken else (2, False, 0))
    if not is_taken:
        assert result.stderr.endswith(f"Error: {path}: a figure's name ends in .png, .svg or .pdf\n")
