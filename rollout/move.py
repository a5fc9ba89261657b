"""A label is moved where labels are kept, and every running server has to answer by it, or it is put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fashion_common.errors import BasePathError
from fashion_common.labels import PUT_BACK, Labels, labels_writer, read_labels
from fashion_common.layout import check_base_path
from fashion_common.running import RunningServer, running_servers
from rollout.errors import RolloutError, RolloutUsageError

_POLL_SECONDS = 0.2
# States of a version that nothing asks for, where there is no error.
_UNWANTED = ("UNLOADING", "END")


def move_labels(
    model_base_path: Path,
    versions: Mapping[str, int | None],
    *,
    action: str,
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    wait_seconds: float,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Gives labels their versions (None: that by default); returns when every running server answers by them.

    report: gets a line of text for each. Raises RolloutUsageError for a version that is not there,
    RolloutError with what was seen, after the labels were put back, when a server does not follow in wait_seconds.
    """
    with labels_writer(model_base_path) as writer:
        changes = changed(writer.labels, versions, model_base_path)
        before = {label: writer.labels.moved.get(label) for label in changes}
        if changes:
            writer.move(changes, action=action, reason=reason, evidence=evidence)
        named = writer.labels.named(versions_there(model_base_path))
        try:
            _wait(model_base_path, {label: named.get(label) for label in versions}, wait_seconds, report)
        except BaseException as error:
            # Ctrl-C too: what no server was seen to follow is not left behind.
            if before:
                writer.move(before, action=PUT_BACK, reason=str(error) or "interrupted")
            if isinstance(error, RolloutError):
                raise RolloutError(f"{error}; {_back(before, writer.labels)}") from error
            raise


def wait_until_loaded(model_base_path: Path, version: int, seconds: float) -> None:
    """Returns when every running server has loaded a version, which it does of labelled ones and the newest.

    Raises RolloutError, with what was seen, when that takes longer or cannot be.
    """
    deadline = time.monotonic() + seconds
    while waiting := [server for server in running_servers(model_base_path) if version not in server.available()]:
        server = waiting[0]
        if reason := _failure(server, {"": version}):
            raise RolloutError(f"{server.url}: {reason}")
        if time.monotonic() > deadline:
            state = server.states().get(version, {}).get("state", "END")
            seen = f"a label asks for it, `fashion label NAME={version}`" if state in _UNWANTED else state
            raise RolloutError(
                f"{server.url} has not loaded version {version} in {seconds:g} s (--wait takes more): {seen}"
            )
        time.sleep(_POLL_SECONDS)


def changed(labels: Labels, versions: Mapping[str, int | None], model_base_path: Path) -> dict[str, int | None]:
    """Those that are not as they should be already. Raises RolloutUsageError for a version that is not there."""
    there = versions_there(model_base_path)
    for label, version in versions.items():
        if version is not None and version not in there:
            raise RolloutUsageError(
                f"{label}={version}: {model_base_path} has no version {version}, only {_listed(there)}"
            )
    return {label: version for label, version in versions.items() if labels.moved.get(label) != version}


def versions_there(model_base_path: Path) -> list[int]:
    """The versions under a model base path, ascending. Raises RolloutUsageError when there are none."""
    try:
        return sorted(check_base_path(model_base_path.name, model_base_path))
    except BasePathError as error:
        raise RolloutUsageError(f"{error}. --model-base-path names another") from error


def previous(model_base_path: Path, label: str) -> int:
    """The version that a label named before its last move. Raises RolloutUsageError when there is none."""
    version = read_labels(model_base_path).before(label)
    there = versions_there(model_base_path)
    if version is None:
        raise RolloutUsageError(
            f"{label} was never moved: `fashion label {label}=N` names a version of {_listed(there)}"
        )
    if version not in there:
        raise RolloutUsageError(
            f"{label} named version {version} before, which is gone: "
            f"`fashion label {label}=N` names one of {_listed(there)}"
        )
    return version


def _wait(
    model_base_path: Path, versions: Mapping[str, int | None], seconds: float, report: Callable[[str], None]
) -> None:
    deadline = time.monotonic() + seconds
    followed: set[str] = set()
    while True:
        # One that ends meanwhile need not follow.
        servers = running_servers(model_base_path)
        for server in servers:
            if server.url not in followed and not _lag(server, versions):
                followed.add(server.url)
                report(f"{server.url} answers by it")
        waiting = [server for server in servers if server.url not in followed]
        if not waiting:
            return
        for server in waiting:
            if reason := _failure(server, versions):
                raise RolloutError(f"{server.url} cannot follow: {reason}")
        if time.monotonic() > deadline:
            lag = _lag(waiting[0], versions)
            raise RolloutError(f"{waiting[0].url} does not follow in {seconds:g} s (--wait takes more): {lag}")
        time.sleep(_POLL_SECONDS)


def _lag(server: RunningServer, versions: Mapping[str, int | None]) -> str:
    """What a server still answers otherwise; empty when it follows."""
    for label, version in versions.items():
        seen = server.version_of(label)
        if version != seen:
            return f"{label} is version {seen if seen is not None else 'none'} there, not {version}"
    return ""


def _failure(server: RunningServer, versions: Mapping[str, int | None]) -> str:
    """Why a server will not follow: a version that it cannot load; empty while it may."""
    states = server.states()
    for version in versions.values():
        status = states.get(version) if version is not None else None
        if status and status["state"] == "END" and status["status"]["error_code"] != "OK":
            return f"version {version} cannot be loaded: {status['status']['error_message']}"
    return ""


def _back(before: Mapping[str, int | None], labels: Labels) -> str:
    names = ", ".join(f"{label}={labels.moved.get(label, 'by default')}" for label in before)
    return f"put back: {names}" if before else "nothing was moved"


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions))
