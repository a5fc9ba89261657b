"""Images for the tests: built with the engine that runs here, on what it has."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tools.image import build_command

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 1500
# What the build is given is what .dockerignore lets through, and the model of the tests.
_CONTEXT = (
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "docker",
    "requirements",
    "fashion_common",
    "serving",
    "client",
    "training",
)


class BuiltImage(NamedTuple):
    """An image, its size in bytes, and how long it took to build."""

    name: str
    size: int
    seconds: float


def write_context(directory: Path, model_base_path: Path) -> Path:
    """A build context: this project with a model in it."""
    for name in _CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    shutil.copytree(model_base_path, directory / "models/fashion_mnist")
    return directory


def build(engine: str, name: str, context: Path, *, base_image: str = "") -> BuiltImage:
    """Builds fashion-NAME:test. Fails with the end of what the engine said."""
    tag = f"fashion-{name}:test"
    began = time.monotonic()
    command = build_command(name, engine, context=context, tag=tag, base_image=base_image, network="host")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=BUILD_SECONDS
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return BuiltImage(tag, image_size(engine, tag), time.monotonic() - began)


def image_size(engine: str, image: str) -> int:
    """The size of an image in bytes, all layers together."""
    return int(run(engine, "image", "inspect", "--format={{.Size}}", image))


def run(engine: str, *arguments: str) -> str:
    """What the engine prints. Fails with what it says instead."""
    done = subprocess.run([engine, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout.strip()
