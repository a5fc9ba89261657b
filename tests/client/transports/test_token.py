"""Tokens: how a client sends them, where it does not, and what it says when the server refuses."""

# ruff: noqa: S106 - no tokens of anybody

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from client import Security, aio, connect
from client.cli import fashion
from client.errors import ClientUsageError, ServerError
from client.transports.address import ServerAddress
from client.types import ModelSpec
from fashion_common.tokens import entry
from tests.support.ports import ports

APIS = pytest.mark.parametrize("api", ["grpc", "http"])
MODEL = ModelSpec("m")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server that asks for tokens, by API: `readable` may read it, `other` may predict."""
    path = tmp_path_factory.mktemp("tokens")
    file = path / "tokens"
    file.write_text(f"{entry('r', 'readable', ['read']).line}\n{entry('o', 'other', ['predict']).line}\n")
    with pytest.MonkeyPatch.context() as patch, ports(path, patch, token_file=str(file)) as live:
        yield {"grpc": f"grpc://{live.address}", "http": str(live.rest.base_url).rstrip("/")}


@APIS
def test_the_token_goes_with_each_request(servers: dict[str, str], api: str) -> None:
    """Over both APIs, and awaited."""
    security = Security(token="readable")

    async def ask() -> str:
        async with aio.connect(servers[api], model=MODEL, security=security) as connection:
            return (await connection.status())[0].state

    with connect(servers[api], model=MODEL, security=security) as connection:
        assert connection.status()[0].state == asyncio.run(ask()) == "AVAILABLE"


@APIS
@pytest.mark.parametrize(
    ("token", "code", "hint"),
    [
        ("", "UNAUTHENTICATED", "--token-file names the file with your token"),
        ("wrong", "UNAUTHENTICATED", "--token-file names the file with your token"),
        ("other", "PERMISSION_DENIED", "`fashion token NAME --scope SCOPE`"),
    ],
)
def test_a_refusal_says_what_to_do(servers: dict[str, str], api: str, token: str, code: str, hint: str) -> None:
    """The same over both APIs; the token is not in it."""
    with (
        connect(servers[api], model=MODEL, security=Security(token=token)) as connection,
        pytest.raises(ServerError) as raised,
    ):
        connection.status()
    assert raised.value.code == code
    assert hint in str(raised.value)
    assert "wrong" not in str(raised.value)


@pytest.mark.parametrize("url", ["grpc://192.0.2.1:8500", "http://model.example", "http://localhost.example:8501"])
def test_a_token_never_goes_in_the_clear(url: str) -> None:
    """Nor is it said; nothing is sent."""
    with pytest.raises(ClientUsageError) as raised:
        connect("grpc://127.0.0.1", url, security=Security(token="secret"))
    address = ServerAddress.parse(url)
    assert str(raised.value) == (
        f"{address} has no TLS, and the token could be read on the way: name the server by grpcs:// or https://, "
        "or reach it over a tunnel to 127.0.0.1"
    )


@pytest.mark.parametrize(
    "url",
    ["grpcs://model.example", "https://192.0.2.1", "http://localhost", "http://[::1]", "grpc://127.1.2.3", "unix:///x"],
)
def test_a_token_goes_over_tls_and_to_this_machine(url: str) -> None:
    """Whatever the API."""
    connect(url, security=Security(token="secret")).close()


def test_what_is_no_token() -> None:
    """A header of two words, or two tokens, would be another request; it is not repeated."""
    for token in ("two words", "s\u00e9cret", "secret\r\nhost: x"):
        with pytest.raises(ClientUsageError, match="holds is no token") as raised:
            Security(token=token)
        assert token not in str(raised.value)
    with pytest.raises(ClientUsageError, match="exclude each other"):
        Security(token="secret", headers=(("authorization", "x"),))
    assert "secret" not in f"{Security(token='secret')!r}"


def test_the_command_line_takes_it_from_a_file_or_the_environment(servers: dict[str, str], tmp_path: Path) -> None:
    """--token-file comes first; what is printed has no token, with --verbose too."""
    file, wrong, empty = tmp_path / "token", tmp_path / "wrong", tmp_path / "empty"
    file.write_text("readable\n")
    wrong.write_text("wrong")
    empty.touch()
    ask = ["status", "--server", servers["http"], "--model-name", "m", "--json"]

    def run(*options: str, **environment: str) -> tuple[int, str, str]:
        result = CliRunner(env=environment).invoke(fashion, [*ask, *options])
        assert "readable" not in result.output
        return result.exit_code, result.stdout, result.stderr

    for answer in (
        run("--token-file", str(file), FASHION_TOKEN="wrong"),
        run(FASHION_TOKEN="readable"),
        run(FASHION_TOKEN_FILE=str(file)),
    ):
        assert answer[0] == 0, answer
        assert json.loads(answer[1])
    code, _, text = run("--token-file", str(wrong), "--verbose", FASHION_TOKEN="readable")
    assert code == 1
    assert "UNAUTHENTICATED" in text
    for path, error in (
        (empty, "is empty: it holds the token that `fashion token` printed"),
        (tmp_path / "no", "cannot be read"),
    ):
        code, _, text = run("--token-file", str(path))
        assert code == 2
        assert f"--token-file {path} {error}" in text


def test_doctor_names_the_fix(servers: dict[str, str]) -> None:
    """In its first finding."""
    result = CliRunner().invoke(fashion, ["doctor", "--server", servers["http"], "--model-name", "m", "--json"])
    assert result.exit_code == 1
    [finding, *_] = json.loads(result.stdout)
    assert finding["seen"].startswith("UNAUTHENTICATED: The request has no token")
    assert finding["fix"].startswith("--token-file")
