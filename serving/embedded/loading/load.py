"""What a version goes through before it serves: load, warmup, self-test."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

from fashion_common.layout import MANIFEST_FILE, SELF_TEST_FILE
from serving.apis.self_test import ArchiveError, Case, MismatchError, largest_differences, read_archive
from serving.apis.tensors import Array
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.inference.model import LoadedModel, Servable
from serving.embedded.loading.warmup import warm_up
from serving.embedded.models.manifest import check_files
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import Version
from serving.errors import FailedPrecondition

log = logging.getLogger(__name__)

Load = Callable[[str, int, VersionDirectory], LoadedModel]


def version_load(
    runtime: Callable[[VersionDirectory], Servable],
    batching: Callable[[VersionDirectory], BatchingOptions | None] = lambda _: None,
    *,
    check_signature: Callable[[VersionDirectory], None] | None = None,
    require_manifest: bool = False,
    iterations: int = 1,
) -> Load:
    """A load function for the manager: what it gives has its manifest's files and has passed its warmup and self-test.

    runtime: makes a version's directory a servable. batching: gives a version's batching options. check_signature:
    raises for a version that nobody who is trusted signed. require_manifest: whether a version needs a manifest and a
    self-test. iterations: how often each warmup request is replayed; 0 for no warmup.
    """

    def load(name: str, number: int, directory: VersionDirectory) -> LoadedModel:
        fingerprint = directory.at_rest() if check_signature else directory.current()[0]
        if check_signature:
            # First: nothing of an unsigned version is read.
            check_signature(directory)
        files = check_files(directory)
        if require_manifest:
            _check_proof(directory, files)
        options = batching(directory)
        servable = runtime(directory)
        try:
            model = LoadedModel(name, number, servable, options)
            version: Version[LoadedModel] = Version(name, number, directory, threading.RLock())
            version.put(model)
            replayed = warm_up(version, iterations) if iterations else 0
            tested = _self_test(directory, servable)
            if check_signature or files is not None:
                _check_unchanged(directory, fingerprint)
        except BaseException:
            servable.close()
            raise
        log.info("%s version %d: %d warmup requests, self-test of %s", name, number, replayed, tested or "nothing")
        return model

    return load


def _check_proof(directory: VersionDirectory, files: int | None) -> None:
    """Raises FailedPrecondition for a version without a manifest, or without a self-test. files: of its manifest."""
    missing = MANIFEST_FILE if files is None else SELF_TEST_FILE
    if files is None or directory.file(missing) is None:
        raise FailedPrecondition(f"The version has no {missing}, without which --require_manifest serves none")


def _check_unchanged(directory: VersionDirectory, fingerprint: object) -> None:
    if directory.current()[0] != fingerprint:
        raise FailedPrecondition("The version's files changed while it was loaded: those that were checked must stay")


def _self_test(directory: VersionDirectory, servable: Servable) -> list[str]:
    """Holds every signature in a version's archive to its golden outputs; gives their names, none without an archive.

    A model that was made elsewhere has no archive. Raises FailedPrecondition with what differs.
    """
    file = directory.file(SELF_TEST_FILE)
    if file is None:
        return []
    try:
        return list(largest_differences(read_archive(file), functools.partial(_answer, servable)))
    except ArchiveError as error:
        raise FailedPrecondition(f"Self-test {file} cannot be read: {error}") from error
    except MismatchError as error:
        raise FailedPrecondition(f"Self-test {file}: {error}") from error


def _answer(servable: Servable, name: str, case: Case) -> dict[str, Array]:
    signature = servable.signatures.get(name)
    if signature is None:
        raise MismatchError(f"the model has no signature {name}")
    if unknown := case.inputs.keys() - signature.inputs.keys():
        raise MismatchError(f"signature {name} has no input {min(unknown)}")
    outputs = [key for key in case.outputs if key in signature.outputs]
    feeds = {signature.inputs[key].name: case.inputs[key] for key in sorted(case.inputs)}
    values = servable.run(feeds, [signature.outputs[key].name for key in outputs])
    return dict(zip(outputs, values, strict=True))
