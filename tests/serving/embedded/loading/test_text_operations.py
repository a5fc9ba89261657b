"""A graph with TensorFlow Text's operations: they are registered by importing a package that may not be there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.apis.messages import SavedModel

ROOT = Path(__file__).parents[4]
_LOAD = """
import sys
from pathlib import Path
from serving.embedded.loading.tensorflow import saved_model
from serving.embedded.models.storage import VersionDirectory
saved_model.load(VersionDirectory(Path(sys.argv[1])))
"""
# Registering an operation takes a shared library: this one makes the graph need none instead.
_PACKAGE = "import pathlib\npathlib.Path({graph!r}).write_bytes(pathlib.Path({loadable!r}).read_bytes())\n"


@pytest.fixture
def version(toys: Path, tmp_path: Path) -> Path:
    """A version with an operation that TensorFlow has not."""
    copy = shutil.copytree(toys / "half_plus_two" / "1", tmp_path / "model" / "1")
    graph = copy / "saved_model.pb"
    model = SavedModel.FromString(graph.read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="tokens", op="TFText>Tokenize")
    graph.write_bytes(model.SerializeToString())
    return copy


def load(version: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    """Loads a version in a process that finds the packages of a directory."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", _LOAD, str(version)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_package_is_imported_when_a_graph_asks_for_it(version: Path, toys: Path, tmp_path: Path) -> None:
    """And the version is loaded again."""
    packages = tmp_path / "packages"
    packages.mkdir()
    loadable = toys / "half_plus_two" / "1" / "saved_model.pb"
    package = _PACKAGE.format(graph=str(version / "saved_model.pb"), loadable=str(loadable))
    (packages / "tensorflow_text.py").write_text(package)

    process = load(version, packages)

    assert process.returncode == 0, process.stderr


def test_without_the_package_the_error_names_it(version: Path, tmp_path: Path) -> None:
    """And the operation."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "tensorflow_text.py").write_text("raise ImportError('no such package')")

    process = load(version, packages)

    assert process.returncode != 0
    assert "Op type not registered 'TFText>Tokenize'" in process.stderr
    assert "install tensorflow-text (no such package)" in process.stderr
