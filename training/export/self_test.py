"""The self-test of a version: on every runtime that it has a model for, each signature must answer as Keras did."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fashion_common.layout import LITE_MODEL_FILE, SELF_TEST_FILE
from serving.apis.self_test import ArchiveError, Array, Case, MismatchError, largest_differences, read_archive
from training.errors import SelfTestError
from training.export import lite
from training.export.signatures import run


class Differences(NamedTuple):
    """Each signature's largest absolute difference from the trained model, by runtime.

    LiteRT's are none without its model, and where that fails, with the reason in litert_failure.
    """

    tensorflow: dict[str, float]
    litert: dict[str, float]
    litert_failure: str = ""


def run_self_test(version_path: Path) -> Differences:
    """Loads the SavedModel, and `model.tflite` where there is one, and compares their outputs with the golden ones.

    Raises SelfTestError when an output differs or is missing on TensorFlow, when it cannot load the model, and when
    there is no archive or a damaged one.
    """
    archive = version_path / SELF_TEST_FILE
    if not archive.is_file():
        raise SelfTestError(f"No self-test at {archive}: only versions made by `fashion export` have one")
    try:
        cases = read_archive(archive)
    except ArchiveError as error:
        raise SelfTestError(f"The self-test {archive} is damaged ({error}): export the version again") from error
    on_tensorflow, lite_model = _on_tensorflow(version_path, cases), version_path / LITE_MODEL_FILE
    if not lite_model.exists():
        return Differences(on_tensorflow, {})
    try:
        return Differences(on_tensorflow, _on_litert(lite_model, cases))
    except MismatchError as error:
        return Differences(on_tensorflow, {}, f"{error}, on LiteRT")
    except (ValueError, RuntimeError) as error:
        return Differences(on_tensorflow, {}, f"LiteRT cannot run {lite_model}: {str(error).splitlines()[0]}")


def _on_tensorflow(version_path: Path, cases: Mapping[str, Case]) -> dict[str, float]:
    try:
        signatures = tf.saved_model.load(str(version_path)).signatures
        return largest_differences(cases, functools.partial(_answer, signatures))
    except MismatchError as error:
        raise SelfTestError(str(error)) from error
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise SelfTestError(f"TensorFlow cannot load {version_path}: {str(error).splitlines()[0]}") from error


def _answer(signatures: Mapping[str, Any], name: str, case: Case) -> dict[str, Array]:
    if name not in signatures:
        raise MismatchError(f"signature {name} is missing: there are {', '.join(signatures)}")
    try:
        return run(signatures[name], case.inputs)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise SelfTestError(f"Signature {name} failed: {error}") from error


def _on_litert(lite_model: Path, cases: Mapping[str, Case]) -> dict[str, float]:
    interpreter = Interpreter(str(lite_model))
    return largest_differences(
        {name: cases[name] for name in lite.converted_signatures(cases)},
        lambda name, case: dict(interpreter.get_signature_runner(name)(**case.inputs)),
    )
