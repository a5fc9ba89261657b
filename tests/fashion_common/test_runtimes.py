"""Which runtimes are installed, without importing one."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest

from fashion_common.runtimes import installed_runtimes, runtime_version


def test_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their packages, TensorFlow first."""
    there = {"tensorflow", "ai_edge_litert"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in there else None)
    assert installed_runtimes() == ["tensorflow", "litert"]
    there.remove("tensorflow")
    assert installed_runtimes() == ["litert"]
    there.clear()
    assert installed_runtimes() == []


def test_a_runtimes_version_is_that_of_whatever_distribution_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow comes as `tensorflow-cpu` too; where nothing tells, there is none."""
    versions = {"tensorflow": "1", "tensorflow-cpu": "2"}
    owners = {"tensorflow": ["tensorflow-cpu"], "ai_edge_litert": []}

    def version(distribution: str) -> str:
        if distribution not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[distribution]

    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert (runtime_version("tensorflow"), runtime_version("litert")) == ("1", "")
    del versions["tensorflow"]
    assert runtime_version("tensorflow") == "2"
    owners.clear()
    assert runtime_version("tensorflow") == ""


def test_distributions_are_found_by_the_packages_names() -> None:
    """Here, where both are installed."""
    assert runtime_version("tensorflow") == importlib.metadata.version("tensorflow")
    assert runtime_version("litert") == importlib.metadata.version("ai-edge-litert")
