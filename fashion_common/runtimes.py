"""The runtimes of the embedded server: their names, and which of them are installed here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util

TENSORFLOW = "tensorflow"
LITERT = "litert"
TITLES = {TENSORFLOW: "TensorFlow", LITERT: "LiteRT"}
# By which extra each is installed.
EXTRAS = {TENSORFLOW: "embedded", LITERT: "light"}
# What a process says that imports TensorFlow and needs no Keras, which takes it as long again. TensorFlow looks for the
# package tf_keras in its place then, and does without: https://keras.io/getting_started/#tensorflow--keras-2-backwards-compatibility
WITHOUT_KERAS = {"TF_USE_LEGACY_KERAS": "1"}
_PACKAGES = {TENSORFLOW: "tensorflow", LITERT: "ai_edge_litert"}


def installed_runtimes() -> list[str]:
    """The names of those that are installed; none is imported."""
    return [runtime for runtime, package in _PACKAGES.items() if importlib.util.find_spec(package) is not None]


def runtime_version(runtime: str) -> str:
    """The version of a runtime that is installed, whatever its distribution is called; "" where nothing tells it."""
    package = _PACKAGES[runtime]
    # Most often it has the package's name; to look at the files of all that is installed takes long.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    for distribution in importlib.metadata.packages_distributions().get(package, ()):
        return importlib.metadata.version(distribution)
    return ""
