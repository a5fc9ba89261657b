"""`make image`: the command that is run, and the labels that say what model is in the image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fashion_common.errors import FashionError
from tests.support.live import KITCHEN
from tools.image import build_command, model_labels

MANIFEST = {"exported_at": "2026-01-02T03:04:05+00:00", "git_revision": "abc123", "accuracy": 0.8812, "recipe": "fast"}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context with versions 3 and 11, the newer one with a manifest."""
    for version in ("3", "11"):
        shutil.copytree(KITCHEN / "1", tmp_path / "models/fashion_mnist" / version)
    extra = tmp_path / "models/fashion_mnist/11/assets.extra"
    extra.mkdir()
    (extra / "manifest.json").write_text(json.dumps(MANIFEST))
    return tmp_path


def test_labels_come_from_the_newest_versions_manifest(context: Path) -> None:
    """Version, date, revision, accuracy, recipe."""
    assert model_labels(context) == {
        "org.opencontainers.image.version": "11",
        "org.opencontainers.image.created": "2026-01-02T03:04:05+00:00",
        "org.opencontainers.image.revision": "abc123",
        "fashion.accuracy": "0.8812",
        "fashion.recipe": "fast",
    }


def test_a_version_without_a_manifest_still_has_its_number(context: Path) -> None:
    """A model from elsewhere has none."""
    shutil.rmtree(context / "models/fashion_mnist/11")
    assert model_labels(context) == {"org.opencontainers.image.version": "3"}


def test_the_gpu_image_on_podman(context: Path) -> None:
    """The variant of the base, docker's format for the health check, the labels."""
    command = build_command("serving-gpu", "podman", context=context, network="host")
    assert command == [
        "podman",
        "build",
        "--format=docker",
        "--network=host",
        f"--file={context}/docker/serving.Dockerfile",
        "--tag=fashion-serving-gpu",
        "--build-arg=VARIANT=-gpu",
        *(f"--label={key}={value}" for key, value in model_labels(context).items()),
        str(context),
    ]


def test_the_client_image_needs_no_model(tmp_path: Path) -> None:
    """Neither a version nor labels of one."""
    assert build_command("client", "docker", context=tmp_path, tag="mine") == [
        "docker",
        "build",
        f"--file={tmp_path}/docker/client.Dockerfile",
        "--tag=mine",
        str(tmp_path),
    ]


def test_an_image_without_a_model_is_not_built(tmp_path: Path) -> None:
    """The fix is to export one."""
    with pytest.raises(FashionError, match="`fashion export` writes the first version"):
        build_command("serving", "docker", context=tmp_path)
