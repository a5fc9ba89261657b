"""`fashion serve` with TLS and tokens: what it takes, what it writes, and how it asks its own server."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from click.testing import CliRunner
from google.protobuf import text_format

from client.cli import fashion
from fashion_common.installation import TOKEN_FILE
from fashion_common.tokens import OWN_LINE_VARIABLE, entry
from serving.apis.messages import SSLConfig
from serving.launch import cli
from serving.launch.access import (
    check_access,
    check_backend,
    environment,
    follow_certificates,
    ssl_config,
    write_access,
)
from serving.launch.backends import SSL_FILE, ServeOptions, binary, container, embedded
from serving.launch.errors import ServeUsageError
from serving.launch.page import page_command
from tests.support.live import KITCHEN, free_port, wait_until

FASHION = Path(sys.executable).with_name("fashion")


class Files:
    """An authority, a server's certificate with its key, and a client's, as PEM files."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.ca, self.cert, self.key = (directory / name for name in ("ca.pem", "server.pem", "server.key"))
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.renew()

    def renew(self) -> None:
        """Another certificate of the same authority."""
        identity = self.authority.issue_cert("127.0.0.1")
        identity.private_key_pem.write_to_path(str(self.key))
        identity.cert_chain_pems[0].write_to_path(str(self.cert))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Those of this test."""
    return Files(tmp_path)


def serve(*arguments: object) -> tuple[int, str]:
    """The exit code and the error of a command that starts nothing."""
    base = ["serve", "--model-base-path", str(KITCHEN), "--print-command"]
    result = CliRunner().invoke(fashion, [*base, *map(str, arguments)])
    return result.exit_code, result.stderr


def test_what_contradicts_itself_is_refused(files: Files, tmp_path: Path) -> None:
    """With the reason and the fix, before anything is started."""
    wrong, text = tmp_path / "wrong", tmp_path / "text.pem"
    wrong.write_text("ann secret\n")
    text.write_text("no certificate")
    tokens = tmp_path / "tokens"
    tokens.write_text(entry("ann", "secret", ["read"]).line)
    tls = ("--tls-cert", files.cert, "--tls-key", files.key)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--tls-cert", files.cert), "give both --tls-cert and --tls-key"),
        (("--tls-client-ca", files.ca), "give --tls-cert and --tls-key too"),
        (("--tls-cert", text, "--tls-key", files.key), "cannot be used for TLS"),
        (("--tls-cert", files.ca, "--tls-key", files.key), "cannot be used for TLS"),
        ((*tls, "--", "--ssl_config_file=x"), "--ssl_config_file after -- contradicts --tls-cert"),
        (("--token-file", wrong), f"--token-file {wrong}:1: 2 words"),
        (("--token-file", tmp_path / "none"), "cannot be read"),
        (("--", f"--token_file={tokens}"), "contradicts --token-file"),
        (("--backend", "binary", "--token-file", tokens), "asks nobody for a token: --token-file needs --backend"),
        (("--backend", "container", *tls, "--tls-client-ca", files.ca), "--tls-client-ca needs --backend embedded"),
    ]  # fmt: skip
    for arguments, error in cases:
        code, output = serve(*arguments)
        assert code == 2, arguments
        assert error in output, arguments
        assert "secret" not in output
    result = CliRunner().invoke(
        fashion, ["serve", "--model-base-path", str(KITCHEN), "--token-file", str(tokens), "--web"]
    )
    assert (result.exit_code, "--web would let everybody ask" in result.stderr) == (2, True)


def test_the_command_lines(files: Files, tmp_path: Path) -> None:
    """Each backend reads the SSLConfig where it has it; the embedded server alone speaks TLS over REST."""
    options = ServeOptions(tls_cert=files.cert, tls_key=files.key, config_dir=tmp_path)
    assert "--ssl_config_file=/config/ssl.config" in container(options)
    assert options.status_url.startswith("http://")
    for backend, command in (("binary", binary), ("embedded", embedded)):
        options = ServeOptions(backend=backend, tls_cert=files.cert, tls_key=files.key, config_dir=tmp_path)
        assert f"--ssl_config_file={tmp_path}/ssl.config" in command(options)
    assert options.status_url.startswith("https://")
    assert options.grpc_url.startswith("grpcs://")
    assert "https://127.0.0.1:8501" in page_command(options)
    assert f"--token_file={files.ca}" in embedded(ServeOptions(token_file=files.ca))


@pytest.mark.parametrize(("backend", "mode"), [("embedded", 0o600), ("container", 0o644)])
def test_what_is_written_is_nobody_elses(files: Files, tmp_path: Path, backend: str, mode: int) -> None:
    """A container's user has to read it: the directory above is closed then."""
    directory = tmp_path / "run" / "config"
    directory.mkdir(parents=True)
    options = ServeOptions(
        backend=backend, tls_cert=files.cert, tls_key=files.key, tls_client_ca=files.ca, config_dir=directory
    )
    write_access(options, directory)
    assert stat.S_IMODE((directory / SSL_FILE).stat().st_mode) == mode
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    config = text_format.Parse((directory / SSL_FILE).read_text(), SSLConfig())
    assert (config.server_key, config.server_cert, config.custom_ca, config.client_verify) == (
        files.key.read_text(), files.cert.read_text(), files.ca.read_text(), True,
    )  # fmt: skip
    if backend == "embedded":
        assert stat.S_IMODE((directory / TOKEN_FILE).stat().st_mode) == 0o600
        token = (directory / TOKEN_FILE).read_text()
        assert environment(options)[OWN_LINE_VARIABLE] == entry("fashion-serve", token, ["read"]).line
        assert token not in str(environment(options))
    else:
        assert OWN_LINE_VARIABLE not in environment(options)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tls_cert": True}, "a certificate needs its key: give both --tls-cert and --tls-key"),
        ({"tls_key": True}, "a certificate needs its key: give both --tls-cert and --tls-key"),
        ({"tls_client_ca": True}, "--tls-client-ca is for a server with TLS: give --tls-cert and --tls-key too"),
        (
            {"tls_cert": True, "tls_key": True, "server_flags": ("--ssl_config_file=x",)},
            "--ssl_config_file after -- contradicts --tls-cert: give one of them",
        ),
        (
            {"token_file": True, "web": True},
            (
                "--web would let everybody ask who reaches the page: start `fashion web --token-file`, or with a "
                "client certificate, by yourself"
            ),
        ),
        (
            {"tls_cert": True, "tls_key": True, "tls_client_ca": True, "web": True},
            (
                "--web would let everybody ask who reaches the page: start `fashion web --token-file`, or with a "
                "client certificate, by yourself"
            ),
        ),
        ({"tls_cert": True, "tls_key": True, "web": True}, ""),
        ({"server_flags": ("--ssl_config_file=x",), "web": True}, ""),
    ],
)
def test_who_may_ask_is_checked_first(files: Files, tmp_path: Path, settings: dict[str, Any], error: str) -> None:
    """What contradicts itself is told to the letter; TLS alone lets a page be shown."""
    tokens = tmp_path / "tokens"
    tokens.write_text(entry("ann", "secret", ["read"]).line)
    paths = {"tls_cert": files.cert, "tls_key": files.key, "tls_client_ca": files.ca, "token_file": tokens}
    web = settings.pop("web", False)
    options = ServeOptions(**{name: paths.get(name, value) for name, value in settings.items()})
    if not error:
        check_access(options, web=web)
        return
    with pytest.raises(ServeUsageError) as raised:
        check_access(options, web=web)
    assert str(raised.value) == error


def test_what_tf_serving_cannot_be_asked_for(files: Files, tmp_path: Path) -> None:
    """Tokens, and client certificates, which its REST port would not ask for; TLS it has."""
    for backend in ("binary", "container"):
        with pytest.raises(ServeUsageError) as raised:
            check_backend(ServeOptions(backend=backend, token_file=files.ca))
        assert str(raised.value) == (
            "tensorflow_model_server asks nobody for a token: --token-file needs --backend embedded"
        )
        with pytest.raises(ServeUsageError) as raised:
            check_backend(ServeOptions(backend=backend, tls_client_ca=files.ca))
        assert str(raised.value) == (
            "tensorflow_model_server has no TLS for REST, and would answer everybody there: --tls-client-ca needs "
            "--backend embedded"
        )
        check_backend(ServeOptions(backend=backend, tls_cert=files.cert, tls_key=files.key))
    check_backend(ServeOptions(backend="embedded", token_file=files.ca, tls_client_ca=files.ca))


def test_files_that_are_no_pem_files(files: Files, tmp_path: Path) -> None:
    """They are named, with what is expected; a certificate without authorities asks nobody for one."""
    with pytest.raises(ServeUsageError) as raised:
        ssl_config([tmp_path / "none", files.key])
    assert str(raised.value) == (
        f"{tmp_path}/none and {files.key} cannot be used for TLS: [Errno 2] No such file or directory: PEM files are "
        "expected"
    )
    config = text_format.Parse(ssl_config([files.cert, files.key]), SSLConfig())
    assert (config.custom_ca, config.client_verify) == ("", False)
    tokens = tmp_path / "tokens"
    tokens.write_bytes(b"\xff")
    with pytest.raises(ServeUsageError, match=rf"^--token-file {tokens} cannot be read: 'utf-8' codec"):
        check_access(ServeOptions(token_file=tokens), web=False)


def test_the_configuration_follows_the_certificate(files: Files, tmp_path: Path) -> None:
    """Not to a certificate that is not its key's: one of the two files is written first."""
    pems = [str(files.cert), str(files.key)]
    (tmp_path / SSL_FILE).write_text(ssl_config(pems))
    (tmp_path / SSL_FILE).chmod(0o600)
    files.renew()
    follow_certificates(tmp_path, pems)
    text = (tmp_path / SSL_FILE).read_text()
    assert text == ssl_config(pems)
    assert stat.S_IMODE((tmp_path / SSL_FILE).stat().st_mode) == 0o600
    files.authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(str(files.key))
    with pytest.raises(ServeUsageError, match="cannot be used for TLS"):
        follow_certificates(tmp_path, pems)
    assert (tmp_path / SSL_FILE).read_text() == text
    follow_certificates(tmp_path, ())


def test_what_is_open_is_said(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, where a server listens on more than the loopback, or REST is not encrypted."""
    cli._echo_addresses(ServeOptions(host="0.0.0.0", backend="embedded"), "Ctrl-C")
    assert capsys.readouterr().err == (
        "Note  Listening on 0.0.0.0 without TLS and tokens: "
        "whoever reaches it may ask, and all can be read on the way\n"
    )
    secured = ServeOptions(tls_cert=files.cert, tls_key=files.key, port=free_port())
    cli._echo_addresses(replace(secured, backend="container"), "Ctrl-C")
    assert capsys.readouterr().err == (
        "Note  REST is not encrypted: tensorflow_model_server has no TLS for it (--backend embedded has)\n"
    )
    cli._echo_addresses(replace(secured, backend="embedded", token_file=files.ca), "Ctrl-C")
    output = capsys.readouterr()
    assert output.err == ""
    assert "REST  https://127.0.0.1:8501/v1/models/fashion_mnist\n" in output.out


def test_a_server_with_all_of_it(files: Files, tmp_path: Path) -> None:
    """`fashion serve` asks it over TLS by its own token: it is AVAILABLE, and follows a label and a certificate."""
    shutil.copytree(KITCHEN, tmp_path / "kitchen", ignore=shutil.ignore_patterns("labels.json"))
    tokens = tmp_path / "tokens"
    tokens.write_text(entry("ann", "secret", ["predict"]).line)
    grpc_port, rest_port = free_port(), free_port()

    def run(*arguments: object) -> str:
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
        command = [str(FASHION), *map(str, arguments)]
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path
        )
        assert process.returncode == 0, process.stderr
        return process.stdout + process.stderr

    tls = ("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", files.ca)
    ports = ("--port", grpc_port, "--rest-port", rest_port)
    output = run("serve", "--model-base-path", "kitchen", "--detach", *ports, *tls, "--token-file", tokens)
    try:
        assert (
            f"Try   fashion call --server grpcs://127.0.0.1:{grpc_port} --tls-ca {files.ca} "
            "--tls-certificate CERTIFICATE.pem --tls-key KEY.pem --token-file TOKEN_FILE --model-name kitchen\n"
        ) in output
        assert "answers by it" in run("label", "canary=1", "--model-base-path", "kitchen")
        context = ssl.create_default_context(cafile=files.ca)
        files.authority.issue_cert("me@example.org").configure_cert(context)

        def served() -> str:
            return ssl.get_server_certificate(("127.0.0.1", rest_port)).strip()

        url = f"https://127.0.0.1:{rest_port}"
        with httpx.Client(base_url=url, verify=context, headers={"authorization": "Bearer secret"}) as http:
            answer = http.post("/v1/models/kitchen:predict", json={"inputs": {"x": [1.0]}})
            assert answer.json() == {"outputs": [3.5]}
            assert http.get("/v1/models/kitchen").status_code == 403
        before = served()
        files.renew()
        wait_until(lambda: served() == files.cert.read_text().strip() != before)
    finally:
        run("serve", "--stop", "--port", grpc_port)
