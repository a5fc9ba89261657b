"""Tokens and TLS of several worker processes: each has them, and they ask each other all the same."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc
import httpx
import trustme

from fashion_common.tokens import SCOPES, entry
from serving.apis import messages, services
from tests.serving.embedded.test_tls import write_config
from tests.support.asking import call
from tests.support.live import free_port, running, wait_until

CONNECTIONS = 8


def test_every_worker_asks_and_they_ask_each_other(lite_toys: Path, lite_flags: Sequence[str], tmp_path: Path) -> None:
    """Status and reload are of all workers; what changes in the files, each takes over."""
    authority = trustme.CA()
    config = write_config(tmp_path, authority)
    tokens = tmp_path / "tokens"
    lines = [entry(scope, scope, [scope]).line for scope in SCOPES]
    tokens.write_text("\n".join(lines))
    ports = (f"--port={free_port()}", f"--rest_api_port={free_port()}")
    access = (f"--token_file={tokens}", f"--ssl_config_file={config}")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running(*lite_flags, "--workers=2", *ports, *access) as server:

        def statuses(token: str) -> set[int]:
            """Those of several connections, which the kernel gives to both workers."""
            headers = {"authorization": f"Bearer {token}"}
            url = f"https://{server.rest}/v1/models/m"
            return {httpx.get(url, headers=headers, verify=context).status_code for _ in range(CONNECTIONS)}

        assert (statuses("read"), statuses("predict"), statuses("x")) == ({200}, {403}, {401})
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(server.grpc, credentials) as channel:
            request = messages.ReloadConfigRequest()
            base = str(lite_toys / "half_plus_two")
            request.config.model_config_list.config.add(name="m", base_path=base, model_platform="tensorflow")
            metadata = [("authorization", "Bearer admin")]
            answer = call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request, metadata=metadata)
            assert answer.status.error_code == 0
        tokens.write_text("\n".join([lines[0], entry("new", "new", ["read"]).line]))
        wait_until(lambda: (statuses("new"), statuses("read")) == ({200}, {401}))
        assert json.loads(httpx.get(f"https://{server.rest}/readyz", verify=context).text)["ready"]
