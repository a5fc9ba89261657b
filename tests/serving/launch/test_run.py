"""How a starting server is watched until the model is AVAILABLE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from serving.launch import run
from serving.launch.backends import ServeOptions
from serving.launch.errors import ServeUsageError


def test_available_never_hides_a_wrong_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF Serving names it and goes on to serve: the log is read after the status, so that it has the flag's name."""
    lines: list[str] = []

    def states(_: ServeOptions) -> dict[int, dict[str, Any]]:
        lines[:] = ["unknown argument: --bogus_flag=3", "usage: tensorflow_model_server"]
        return {1: {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}}

    class Server:
        """One that serves between two looks at it."""

        def alive(self) -> bool:
            return True

        def log(self) -> Sequence[str]:
            return list(lines)

    monkeypatch.setattr(run, "_states", states)
    with pytest.raises(ServeUsageError, match=r"unknown argument: --bogus_flag=3$"):
        run.wait_until_available(Server(), ServeOptions(), seconds=10)
