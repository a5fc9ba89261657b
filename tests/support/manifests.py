"""Kubernetes manifests as tests read them: a base with an overlay's image and patches put in, as kustomize does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "docker/kubernetes"
Document = dict[str, Any]


def read(path: Path) -> Document:
    """The one document of a file."""
    (document,) = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    assert isinstance(document, dict)
    return document


def resources(directory: Path) -> dict[str, Document]:
    """What a kustomization makes, by kind: its resources, its image names and strategic-merge patches put in.

    A directory among the resources is another kustomization; one that only generates has none.
    """
    kustomization = read(directory / "kustomization.yaml")
    found: dict[str, Document] = {}
    for name in kustomization.get("resources", []):
        path = (directory / name).resolve()
        if path.is_dir():
            found.update(resources(path))
        else:
            document = read(path)
            found[document["kind"]] = document
    for patch in kustomization.get("patches", []):
        change = read(directory / patch["path"])
        target = found[change["kind"]]
        assert target["metadata"]["name"] == change["metadata"]["name"]
        if change.get("$patch") == "delete":
            del found[change["kind"]]
        else:
            found[change["kind"]] = merged(target, change)
    for image in kustomization.get("images", []):
        _rename(found["Deployment"], image)
    return found


def merged(target: Any, change: Any) -> Any:
    """A strategic merge: objects key by key, null for none, lists of named things by name, all else replaced."""
    if isinstance(target, dict) and isinstance(change, dict):
        return {
            key: merged(target[key], change[key]) if key in target and key in change else {**target, **change}[key]
            for key in {**target, **change}
            if key not in change or change[key] is not None
        }
    if isinstance(target, list) and isinstance(change, list) and all("name" in one for one in target + change):
        by_name = {one["name"]: one for one in target}
        for one in change:
            by_name[one["name"]] = merged(by_name.get(one["name"], {}), one)
        return list(by_name.values())
    return copy.deepcopy(change)


def container(deployment: Document) -> Document:
    """The one container of a Deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def _rename(deployment: Document, image: Document) -> None:
    server = container(deployment)
    name, _, tag = server["image"].rpartition(":")
    assert name == image["name"], f"no container has the image {image['name']}"
    server["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
