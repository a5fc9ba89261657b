"""Where a result comes from."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from training import origin


def test_the_environment_names_every_package() -> None:
    """With its version; Python's, and the commit, are told too."""
    found = origin.environment()
    assert found["python"] == platform.python_version()
    assert found["git_revision"] == origin.git_revision()
    names = ["ai-edge-litert", "fashion-mnist-serving", "keras", "numpy", "pillow", "tensorflow"]
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert list(packages) == names
    assert packages["numpy"] == metadata.version("numpy")


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """As LiteRT's, where TensorFlow serves."""
    monkeypatch.setattr(origin, "_PACKAGES", ("no-such-package",))
    assert origin.environment()["packages"] == {"no-such-package": None}


def test_the_revision_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty digits, then whether files differ; none outside of a checkout, or without git."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(tmp_path)]
    (tmp_path / "file").write_text("one")
    monkeypatch.setattr(origin, "__file__", str(tmp_path / "origin.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert origin.git_revision() is None
    for command in (["init", "--quiet"], ["add", "file"], ["commit", "--quiet", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    revision = origin.git_revision()
    assert revision is not None
    assert re.fullmatch(r"[0-9a-f]{40}", revision)
    (tmp_path / "file").write_text("two")
    assert origin.git_revision() == f"{revision}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert origin.git_revision() is None
