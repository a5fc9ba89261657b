"""Servables without TensorFlow, and version directories without models."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from serving.apis.messages import SignatureDef
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import Aspired
from serving.embedded.models.storage import VersionDirectory
from serving.errors import InvalidArgument

Array = npt.NDArray[Any]


class FakeServable:
    """A servable that knows its version and how often it was closed."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.signatures: Mapping[str, SignatureDef] = {}
        self.loop_free: frozenset[str] = frozenset()
        self.runtime = "none"
        self.closed = threading.Event()
        self.closes = 0

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Echoes the first feed for every fetch."""
        return [next(iter(feeds.values())) for _ in fetches]

    def close(self) -> None:
        """Counts it."""
        self.closes += 1
        self.closed.set()


class FakeLoader:
    """Loads FakeServables, fails for `broken` versions, and holds back the versions in `gates`."""

    def __init__(self) -> None:
        self.loaded: dict[int, FakeServable] = {}
        self.order: list[int] = []
        self.broken: set[int] = set()
        self.gates: dict[int, threading.Event] = {}

    def __call__(self, _name: str, version: int, _directory: VersionDirectory) -> FakeServable:
        """Loads one version."""
        self.order.append(version)
        if version in self.gates:
            assert self.gates[version].wait(10)
        if version in self.broken:
            raise InvalidArgument(f"version {version} is broken")
        self.loaded[version] = FakeServable(version)
        return self.loaded[version]


def aspire(manager: Manager[FakeServable], base: Path, *versions: int, name: str = "m") -> None:
    """Makes the version directories, and the manager want them."""
    directories = {version: VersionDirectory(base / str(version)) for version in versions}
    for version, directory in directories.items():
        (base / str(version)).mkdir(exist_ok=True)
        directory.look()
    manager.set_aspired(name, Aspired(directories))
