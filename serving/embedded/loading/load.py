"""What a version goes through before it serves: load, warmup, self-test."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from serving.embedded.inference.servable import Servable
from serving.embedded.loading.self_test import self_test
from serving.embedded.loading.warmup import warm_up
from serving.embedded.models.versions import Version

log = logging.getLogger(__name__)

Load = Callable[[str, int, Path], Servable]


class Loader(NamedTuple):
    """What TensorFlow does for the server: loads a version directory, and reads the records of a file."""

    load: Callable[[Path], Servable]
    records: Callable[[Path], Iterable[bytes]]


def version_load(loader: Loader, *, warmup: bool = True, iterations: int = 1) -> Load:
    """A load function for the manager: a version that it gives has passed its warmup and its self-test."""

    def load(name: str, number: int, path: Path) -> Servable:
        servable = loader.load(path)
        try:
            version: Version[Servable] = Version(name, number, path, threading.RLock())
            version.put(servable)
            replayed = warm_up(version, loader.records, iterations) if warmup else 0
            tested = self_test(path, servable)
        except BaseException:
            servable.close()
            raise
        log.info("%s version %d: %d warmup requests, self-test of %s", name, number, replayed, tested or "nothing")
        return servable

    return load
