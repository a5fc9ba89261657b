"""`fashion serve --detach` where the server does not come up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.launch import detached
from serving.launch.backends import BACKENDS, ServeOptions
from serving.launch.errors import LaunchError, ServerEndedError


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no such flag')", "the server ended before the model was AVAILABLE: no such flag"),
        ("import time; time.sleep(60)", r"fashion_mnist is not AVAILABLE after 0 s \(--wait takes more\): it printed"),
    ],
    ids=["ends", "too slow"],
)
def test_nothing_is_left_of_a_server_that_does_not_come_up(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has its last line; it is stopped and no longer recorded, so that the next can start on its port."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setitem(BACKENDS, "embedded", lambda _: [sys.executable, "-c", program])
    options = ServeOptions(port=1, rest_port=1)
    for _ in range(2):
        with pytest.raises(ServerEndedError, match=message):
            detached.start("embedded", options, 0 if "sleep" in program else 30)
    with pytest.raises(LaunchError, match="no server was started with --detach on port 1"):
        detached.stop(options.port)
