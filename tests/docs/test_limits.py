"""The tables of limits in docs/operations.md: they are those of the server."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from serving.embedded.flags import Flags, groups
from serving.embedded.limits import Limits
from serving.embedded.options import limits

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Flags)}
# Beside the group: what bounds time.
TIMES = {
    "rest_api_timeout_in_ms",
    "shutdown_grace_seconds",
    "reload_deadline_seconds",
    "load_timeout_seconds",
    "worker_timeout_seconds",
}


def rows(pattern: str) -> dict[str, str]:
    """The first two columns of each row whose name fits."""
    return dict(re.findall(rf"^\| `{pattern}` \| (.*?) \|", PAGE, re.MULTILINE))


def in_words(name: str, value: float) -> str:
    """A limit as the page has it."""
    if value == 0:
        return "an eighth of the memory left" if name == "max_bytes_in_flight" else "no limit"
    if name.endswith("_bytes") and value % 2**10 == 0:
        return f"{value // 2**20:g} MiB" if value % 2**20 == 0 else f"{value // 2**10:g} KiB"
    return f"{value:g} s" if name.endswith("_seconds") else f"{value:,}"


def test_every_flag_that_is_a_limit() -> None:
    """With its default."""
    assert rows(r"--(\w+)") == {name: in_words(name, DEFAULTS[name]) for name in {*groups()["Limits"], *TIMES}}


def test_every_other_limit() -> None:
    """What no flag of its name sets."""
    values = limits(Flags())._asdict()
    others = [name for name in Limits._fields if name not in DEFAULTS and name != "max_body_bytes"]
    assert rows(r"(max_\w+)") == {name: in_words(name, values[name]) for name in others}
