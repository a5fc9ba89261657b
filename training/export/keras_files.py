"""Keras models in files: .keras, .h5, or .json with weights; and the layers of other people's that they are made of.

Safe mode stays on: code that is written into a model file (a Lambda layer's) is never run. What `--import` names is the
user's own code. https://keras.io/api/models/model_saving_apis/model_saving_and_loading/
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf

from training.errors import TrainingUsageError

RULE = "a model is a .keras or .h5 file, a .json file with --weights, or a SavedModel's directory"
_UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+:) '?(\w+)'?")


def model_files(file: Path, weights: Path | None) -> tuple[Path, ...]:
    """The files of a model: itself and, for .json, its weights, `NAME.weights.h5` beside it if they are not named.

    Raises TrainingUsageError for other files, and for one that is not there.
    """
    if file.suffix != ".json" and (file.suffix not in {".keras", ".h5"} or weights):
        raise TrainingUsageError(f"{file}: {RULE}")
    files = (file, weights or file.with_suffix(".weights.h5")) if file.suffix == ".json" else (file,)
    for path in files:
        if not path.is_file():
            raise TrainingUsageError(f"No file {path}: {RULE}")
    return files


def load_model(file: Path, weights: Path | None = None, objects: Mapping[str, Any] | None = None) -> keras.Model:
    """The model of a file. objects: custom layers and functions by name. Raises TrainingUsageError."""
    with keras_errors("load", file):
        if weights is None:
            return keras.models.load_model(file, custom_objects=objects, compile=False)
        model = keras.models.model_from_json(file.read_text(encoding="utf-8"), custom_objects=objects)
        model.load_weights(weights)
        return model


def custom_objects(modules: Iterable[str]) -> dict[str, Any]:
    """The classes and functions of modules, by name. A module is a name, found from here too, or a .py file.

    Keras finds what is registered with `@keras.saving.register_keras_serializable()` by itself, and the rest by these.
    Raises TrainingUsageError for a module that cannot be imported.
    """
    objects: dict[str, Any] = {}
    for module in modules:
        objects.update((name, value) for name, value in vars(_imported(module)).items() if callable(value))
    return objects


@contextmanager
def keras_errors(what: str, file: Path) -> Iterator[None]:
    """Raises TrainingUsageError in place of what Keras raises for a file, with the fix where the cause is known."""
    try:
        yield
    except (
        ValueError,
        OSError,
        TypeError,
        KeyError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        tf.errors.OpError,
    ) as error:
        raise TrainingUsageError(_text(what, file, error)) from error


def _imported(module: str) -> ModuleType:
    try:
        if not module.endswith(".py"):
            if (here := str(Path.cwd())) not in sys.path:
                sys.path.append(here)
            return importlib.import_module(module)
        spec = importlib.util.spec_from_file_location(Path(module).stem, os.fspath(module))
        assert spec is not None
        assert spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        # A model names its layers' module, which Keras imports again.
        sys.modules.setdefault(spec.name, code)
        spec.loader.exec_module(code)
    except Exception as error:  # the module's own code may raise anything
        raise TrainingUsageError(
            f"--import {module}: {type(error).__name__}: {error}: name a module that Python finds here, or a .py file"
        ) from error
    return code


def _text(what: str, file: Path, error: Exception) -> str:
    text = str(error)
    if "`Lambda`" in text and "safe_mode" in text:
        return (
            f"{file} has a Lambda layer, which is Python code inside the file: it is not run (Keras's safe mode). "
            "Write it as a layer of its own, save the model again, and name the layer's module with --import"
        )
    if unknown := _UNKNOWN.search(text):
        return f"{file} needs {unknown[1]}, which is not Keras's: name the module or .py file that has it with --import"
    if "No model config found" in text:
        return f"{file} holds weights only: save the whole model, or name its .json with --from and this with --weights"
    # Keras says first where it was, and makes some of it bold.
    reason = re.sub(
        r"\x1b\[\d*m|^Exception encountered when calling .*", "", text.rpartition("Exception encountered: ")[2]
    )
    line = next((line.strip() for line in reason.splitlines() if line.strip()), type(error).__name__)
    return f"Keras cannot {what} {file}: {line}"
