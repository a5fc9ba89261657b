"""The self-test of a version: golden inputs must give golden outputs before it becomes AVAILABLE."""

from __future__ import annotations

import functools

from fashion_common.layout import SELF_TEST_FILE
from serving.apis.self_test import ArchiveError, Array, Case, MismatchError, largest_differences, read_archive
from serving.embedded.inference.servable import Servable
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition


def self_test(directory: VersionDirectory, servable: Servable) -> list[str]:
    """Runs every signature in a version's archive once; gives their names, none without an archive.

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
