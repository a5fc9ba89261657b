"""The self-test of a version: loaded by TensorFlow, every signature must answer as the Keras model did.

`python -m training.export.self_test` runs the test of the version whose path it reads, in a process that knows nothing
of the model but its files. It is started early: TensorFlow takes seconds to import, which pass meanwhile.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from fashion_common.installation import module_command
from fashion_common.layout import SELF_TEST_FILE
from serving.apis.self_test import ArchiveError, Array, Case, MismatchError, largest_differences, read_archive
from training.errors import SelfTestError

Differences = dict[str, float]


@contextmanager
def self_test_process() -> Iterator[Callable[[Path], Differences]]:
    """Starts the process, and gives what runs the self-test of a version in it, once.

    That gives each signature's largest difference, and raises SelfTestError with what the process said.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    # Should this process be killed, the end of its input ends the other one too.
    with subprocess.Popen(
        module_command("training.export.self_test"),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def result(version_path: Path) -> Differences:
            output, errors = process.communicate(f"{version_path.absolute()}\n")
            if process.returncode:
                lines = errors.strip().splitlines() or [f"its process ended with {process.returncode}"]
                raise SelfTestError(f"Not published, the self-test failed: {lines[-1]}")
            differences: Differences = json.loads(output.splitlines()[-1])
            return differences

        try:
            yield result
        finally:
            process.kill()


def run_self_test(version_path: Path) -> Differences:
    """Loads the SavedModel and compares every signature's outputs with the golden ones.

    Gives each signature's largest absolute difference. Raises SelfTestError when an output differs or is missing, when
    the SavedModel cannot be loaded, and when there is no archive or a damaged one.
    """
    archive = version_path / SELF_TEST_FILE
    if not archive.is_file():
        raise SelfTestError(f"No self-test at {archive}: only versions made by `fashion export` have one")
    try:
        cases = read_archive(archive)
        signatures = tf.saved_model.load(str(version_path)).signatures
        return largest_differences(cases, functools.partial(_answer, signatures))
    except ArchiveError as error:
        raise SelfTestError(f"The self-test {archive} is damaged ({error}): export the version again") from error
    except MismatchError as error:
        raise SelfTestError(str(error)) from error
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise SelfTestError(f"TensorFlow cannot load {version_path}: {str(error).splitlines()[0]}") from error


def _answer(signatures: Mapping[str, Any], name: str, case: Case) -> dict[str, Array]:
    if name not in signatures:
        raise MismatchError(f"signature {name} is missing: there are {', '.join(signatures)}")
    try:
        outputs = signatures[name](**{key: tf.constant(value) for key, value in case.inputs.items()})
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise SelfTestError(f"Signature {name} failed: {error}") from error
    return {key: output.numpy() for key, output in outputs.items()}


def main() -> None:
    """Tests the version named on stdin: each signature's difference as JSON on stdout, or what is wrong on stderr."""
    version_path = sys.stdin.readline().strip()
    if not version_path:
        return
    try:
        print(json.dumps(run_self_test(Path(version_path))))
    except SelfTestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
