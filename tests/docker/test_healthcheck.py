"""The images' health check, against an embedded server: plain, with tokens, and over TLS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import trustme

from fashion_common.tokens import entry
from tests.serving.embedded.test_tls import write_config
from tests.support.ports import ports

SCRIPT = Path(__file__).parents[2] / "docker" / "healthcheck.sh"


@pytest.mark.parametrize(
    "access", [(), ("token_file",), ("ssl_config_file", "token_file")], ids=["plain", "tokens", "TLS"]
)
def test_a_server_that_serves_is_healthy(
    access: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may ask it; and where nobody listens, nothing is."""
    files = {"token_file": tmp_path / "tokens", "ssl_config_file": write_config(tmp_path, trustme.CA())}
    files["token_file"].write_text(entry("ann", "secret", ["read"]).line)

    def check(port: int) -> int:
        script = tmp_path / "healthcheck.sh"
        script.write_text(SCRIPT.read_text().replace("8501", str(port)))
        environment = {**os.environ, "MODEL_NAME": "m"}
        return subprocess.run(["/bin/bash", str(script)], env=environment, check=False, timeout=20).returncode

    with ports(tmp_path, monkeypatch, **{name: str(files[name]) for name in access}) as live:
        port = live.rest.base_url.port
        assert port
        assert check(port) == 0
    assert check(port) != 0
