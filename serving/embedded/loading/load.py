"""What a version goes through before it serves: load, warmup, self-test."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.servable import Servable
from serving.embedded.loading.self_test import self_test
from serving.embedded.loading.warmup import warm_up
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version

log = logging.getLogger(__name__)

Load = Callable[[str, int, VersionDirectory], LoadedModel]


class Runtime(NamedTuple):
    """What runs models. load: makes a version's directory a servable. records: reads the records of a TFRecord file."""

    load: Callable[[VersionDirectory], Servable]
    records: Callable[[Path], Iterable[bytes]]


def version_load(
    runtime: Runtime,
    batching: Callable[[VersionDirectory], BatchingOptions | None] = lambda _: None,
    *,
    warmup: bool = True,
    iterations: int = 1,
) -> Load:
    """A load function for the manager: a version that it gives has passed its warmup and its self-test.

    batching: gives a version's batching options. iterations: how often each warmup request is replayed.
    """

    def load(name: str, number: int, directory: VersionDirectory) -> LoadedModel:
        options = batching(directory)
        servable = runtime.load(directory)
        try:
            model = LoadedModel(name, number, servable, options)
            version: Version[LoadedModel] = Version(name, number, directory, threading.RLock())
            version.put(model)
            replayed = warm_up(version, runtime.records, iterations) if warmup else 0
            tested = self_test(directory, servable)
        except BaseException:
            servable.close()
            raise
        log.info("%s version %d: %d warmup requests, self-test of %s", name, number, replayed, tested or "nothing")
        return model

    return load
