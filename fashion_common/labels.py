"""Which version each label names: `labels.json` beside the versions, the one home of labels.

TF Serving passes over what has no number for a name under a model base path. A server's own `models.config` is derived
from this file while the server runs. `stable` and `canary` have a version without being moved: the newest but one (the
only one of one), and the newest.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from fashion_common.errors import LabelsError
from fashion_common.files import write_whole
from fashion_common.layout import version_directories

LABELS_FILE = "labels.json"
STABLE, CANARY = "stable", "canary"
_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.05
# What a URL of TF Serving's REST API can name.
_LABEL = re.compile(r"[^/:=\s]{1,100}")
# Actions that return to the version before.
ROLLBACK, PUT_BACK = "rollback", "put back"


# The last version, and those before it.
_Versions: TypeAlias = "tuple[int | None, _Versions] | None"


class Move(NamedTuple):
    """One line of the history: a label that named version `before` names `after`.

    time: ISO 8601 in UTC. before: None for a label that was new. after: None for the version by default. action: the
    command that moved it. evidence: what spoke for it, as JSON has it.
    """

    time: str
    label: str
    before: int | None
    after: int | None
    action: str
    reason: str
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Labels:
    """The labels that were moved, and every move, the oldest first."""

    moved: Mapping[str, int] = field(default_factory=dict)
    history: tuple[Move, ...] = ()

    def named(self, versions: Collection[int]) -> dict[str, int]:
        """The version of every label, where these versions are there."""
        newest = sorted(versions)[-2:]
        defaults = {STABLE: newest[0], CANARY: newest[-1]} if newest else {}
        return {**defaults, **self.moved}

    def after(self, versions: Mapping[str, int | None]) -> dict[str, int]:
        """The labels that are moved once these have moved too, to their versions or (None) to those by default."""
        return {label: number for label, number in {**self.moved, **versions}.items() if number is not None}

    def before(self, label: str) -> int | None:
        """The version that a rollback returns to: the one before the last move that was not taken back."""
        stack: _Versions = None
        last: _Versions = None
        for move in self.history:
            if move.label != label:
                continue
            if move.action == PUT_BACK:
                # The move before it is taken back, a rollback too.
                stack = last
                continue
            last = stack
            # One that was written down when it was first served has not moved.
            if move.before != move.after:
                stack = (stack[1] if stack else None) if move.action == ROLLBACK else (move.before, stack)
        return stack[0] if stack else None

    def in_use(self) -> frozenset[int]:
        """The versions that must stay: those that labels were moved to, and those that a rollback returns to."""
        before = {self.before(label) for label in self.moved}
        return frozenset(self.moved.values()) | {version for version in before if version is not None}

    def last_move(self, label: str) -> Move | None:
        """The move that gave the label its version."""
        return next((move for move in reversed(self.history) if move.label == label), None)


def read_labels(model_base_path: Path) -> Labels:
    """The labels of a model base path; none were moved where there is no file. Raises LabelsError."""
    path = model_base_path / LABELS_FILE
    try:
        return parse_labels(path.read_bytes(), str(path))
    except FileNotFoundError:
        return Labels()
    except OSError as error:
        raise LabelsError(f"{path} cannot be read: {error.strerror}") from error


def parse_labels(text: bytes, path: str) -> Labels:
    """The labels that the content of a file says. Raises LabelsError, which names its path."""
    try:
        content = json.loads(text)
        moved = {check_label(label): _version(number) for label, number in content["labels"].items()}
        return Labels(moved, tuple(Move(**move) for move in content["history"]))
    except (ValueError, KeyError, TypeError, AttributeError, LabelsError) as error:
        raise LabelsError(
            f"{path} is damaged ({error}): correct it, or move it away and set the labels with `fashion label`"
        ) from error


def check_label(label: str) -> str:
    """The label. Raises LabelsError for one that no URL can name."""
    if not _LABEL.fullmatch(label):
        raise LabelsError(f"{label[:100]!r} is no label: 1 to 100 characters without / : = and spaces")
    return label


class LabelsWriter:
    """Writes the labels of one model base path; its maker holds their lock."""

    def __init__(self, model_base_path: Path) -> None:
        self._path = model_base_path / LABELS_FILE
        self.labels = read_labels(model_base_path)

    def move(
        self,
        versions: Mapping[str, int | None],
        *,
        action: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Gives each label its version (None: that by default), all or none of them. Raises LabelsError."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        before = self.labels.named(self._versions())
        moves = [
            Move(now, check_label(label), before.get(label), version, action, reason, evidence)
            for label, version in versions.items()
        ]
        labels = Labels(self.labels.after(versions), (*self.labels.history, *moves))
        content = {"labels": labels.moved, "history": [move._asdict() for move in labels.history]}
        self._write(json.dumps(content, indent=2) + "\n")
        self.labels = labels

    def replace(self, text: bytes) -> None:
        """Takes over the content of another model base path's file. Raises LabelsError."""
        self.labels = parse_labels(text, str(self._path))
        self._write(text)

    def _write(self, text: bytes | str) -> None:
        try:
            write_whole(self._path, text)
        except OSError as error:
            raise LabelsError(f"{self._path} cannot be written: {error.strerror}") from error

    def _versions(self) -> Collection[int]:
        try:
            return version_directories(self._path.parent)
        except OSError as error:
            raise LabelsError(f"{self._path.parent} cannot be read: {error.strerror}") from error


@contextmanager
def labels_writer(model_base_path: Path, wait_seconds: float = _LOCK_SECONDS) -> Iterator[LabelsWriter]:
    """The labels of a model base path to move, while nobody else moves them.

    Waits for another one. Raises LabelsError when that takes longer than wait_seconds, or nothing can be written there.
    """
    try:
        import fcntl
    except ImportError as error:
        raise LabelsError("labels need the file locks of Linux or macOS: move them there, or in WSL") from error
    try:
        lock = os.open(model_base_path, os.O_RDONLY)
    except OSError as error:
        raise LabelsError(f"the labels of {model_base_path} cannot be moved: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabelsError(
                        f"another command is moving the labels of {model_base_path}: wait for its end, and try again"
                    ) from None
            time.sleep(_POLL_SECONDS)
        # What killed writers left behind.
        for leftover in model_base_path.glob(f".{LABELS_FILE}.*"):
            leftover.unlink(missing_ok=True)
        yield LabelsWriter(model_base_path)
    finally:
        os.close(lock)


def _version(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise LabelsError(f"{number!r} is no version")
    return number
