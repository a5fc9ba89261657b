"""The page beside a server: when it can be shown, and by which command."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from fashion_common.installation import install_command, module_command
from serving.launch import page as page_module
from serving.launch.backends import ServeOptions
from serving.launch.errors import ServeUsageError
from serving.launch.page import check_page, page, page_command
from tests.support.live import wait_until


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_page_needs_its_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Which is said before a server is started for it; where none is wanted nothing is looked for."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    check_page(wanted=False)
    with pytest.raises(ServeUsageError) as raised:
        check_page(wanted=True)
    assert str(raised.value) == f"--web needs the extra [web] ({missing} is not installed): {install_command('web')}"


def test_the_pages_command() -> None:
    """Of this server over REST, without a browser; TLS is REST's own matter."""
    assert page_command(ServeOptions(model_name="m", rest_port=9)) == [
        *module_command("client.cli"), "web", "--server", "http://127.0.0.1:9", "--model-name", "m", "--no-open",
    ]  # fmt: skip
    secured = ServeOptions(server_flags=("--ssl_config_file=/none/tls.config",), port=1)
    assert "--tls-ca" not in page_command(secured)


def test_a_page_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started when the server is ready, and only where it is wanted; what it complains of is shown."""
    started = tmp_path / "started"
    program = f"""
import os, pathlib, sys, time
print("asked:", repr(sys.stdin.read()), file=sys.stderr, flush=True)
pathlib.Path({str(tmp_path / "new")!r}).write_text(str(os.getpid()))
os.rename({str(tmp_path / "new")!r}, {str(started)!r})
time.sleep(60)
"""
    monkeypatch.setattr(page_module, "page_command", lambda _: [sys.executable, "-c", program])
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with page(ServeOptions(), wanted=False) as start:
            start()
        assert not started.exists()
        with page(ServeOptions(), wanted=True) as start:
            assert not started.exists()
            start()
            wait_until(started.exists)
    assert (tmp_path / "stderr").read_text() == "asked: ''\n"
    assert not psutil.pid_exists(int(started.read_text()))
