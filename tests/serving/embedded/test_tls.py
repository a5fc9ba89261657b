"""TLS on both ports of a server in a process of its own: --ssl_config_file."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import trustme

from tests.hostile.attacks import address
from tests.support.asking import predict
from tests.support.live import running

X = np.array([1.0], np.float32)


def test_tls(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """Clients that trust the certificate are served; plain ones are turned away."""
    authority = trustme.CA()
    config = write_config(tmp_path, authority)
    with running(*lite_flags, f"--ssl_config_file={config}") as server:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(server.grpc, credentials) as channel:
            assert predict(channel, "m", {"x": X})["y"].tolist() == [3.5]
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as raised:
            predict(channel, "m", {"x": X})
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with httpx.Client(base_url=f"https://{server.rest}", verify=context) as http:
            for count in (1, 200_000, 1):
                answer = http.post("/v1/models/m:predict", json={"inputs": {"x": [1.0] * count}}, timeout=30)
                assert answer.json()["outputs"]["y"] == [3.5] * count


def test_tls_with_client_certificates(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """client_verify and custom_ca: clients with a certificate of that CA are served, all others are turned away."""
    authority, stranger = trustme.CA(), trustme.CA()
    config = write_config(
        tmp_path, authority, f"custom_ca: {json.dumps(authority.cert_pem.bytes().decode())}", "client_verify: true"
    )

    def ask(*client: bytes) -> list[float]:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *client)
        with grpc.secure_channel(server.grpc, credentials) as channel:
            answer: list[float] = predict(channel, "m", {"x": X})["y"].tolist()
            return answer

    with running(*lite_flags, f"--ssl_config_file={config}") as server:
        assert ask(*key_and_chain(authority)) == [3.5]
        for client in ((), key_and_chain(stranger)):
            with pytest.raises(grpc.RpcError) as raised:
                ask(*client)
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_answer_that_nobody_reads_is_dropped(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """Over REST too, where TLS takes more of it than a socket would."""
    authority = trustme.CA()
    flags = (f"--ssl_config_file={write_config(tmp_path, authority)}", "--stall_timeout_seconds=1")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    body = json.dumps({"inputs": {"x": [1.0] * 900_000}}).encode()
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with running(*lite_flags, *flags) as server:
        with (
            socket.create_connection(address(server.rest), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
        ):
            encrypted.sendall(head.encode() + body)
            length = int(encrypted.recv(2**14).lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            # Nothing else tells from outside that the server has given it up.
            time.sleep(3)
            received = 0
            with contextlib.suppress(OSError):
                while piece := encrypted.recv(2**16):
                    received += len(piece)
            assert received < length
        with httpx.Client(base_url=f"https://{server.rest}", verify=context) as http:
            assert http.get("/healthz").status_code == 200


def test_handshakes_that_never_end_hold_up_nobody(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """They are connections like all others: the oldest make room for the next, and time is up for the rest."""
    authority = trustme.CA()
    flags = (*lite_flags, f"--ssl_config_file={write_config(tmp_path, authority)}")
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with running(*flags, "--max_connections=20", "--header_timeout_seconds=2") as server, ExitStack() as stack:
        begin = time.monotonic()
        silent = [stack.enter_context(socket.create_connection(address(server.grpc), 10)) for _ in range(60)]
        for connection in silent[:39]:
            assert not connection.recv(1)
        with grpc.secure_channel(server.grpc, credentials) as channel:
            assert predict(channel, "m", {"x": X})["y"].tolist() == [3.5]
            assert time.monotonic() < begin + 2
            for connection in silent[39:]:
                assert not connection.recv(1)
            assert predict(channel, "m", {"x": X})["y"].tolist() == [3.5]


def write_config(directory: Path, authority: trustme.CA, *fields: str) -> Path:
    """An SSLConfig with a certificate of the authority for 127.0.0.1, and these fields."""
    identity = authority.issue_cert("127.0.0.1")
    pems = {"server_key": identity.private_key_pem, "server_cert": identity.cert_chain_pems[0]}
    file = directory / "ssl.config"
    file.write_text(
        "\n".join([*(f"{name}: {json.dumps(pem.bytes().decode())}" for name, pem in pems.items()), *fields])
    )
    return file


def key_and_chain(authority: trustme.CA) -> tuple[bytes, bytes]:
    """A client's key and certificate of this CA, in PEM."""
    identity = authority.issue_cert("client@example.org")
    return identity.private_key_pem.bytes(), identity.cert_chain_pems[0].bytes()
