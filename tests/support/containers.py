"""Images and containers for the tests: built with the engine that runs here, on what it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from serving.launch.backends import RESTRICTIONS
from serving.launch.choose import find_engine
from serving.launch.errors import BackendUnavailableError
from tests.support.road import Road
from tools.image import build_command

ROOT = Path(__file__).parents[2]
# Beside the backends of `fashion serve`: the backend `container` with the image on LiteRT.
LIGHT_CONTAINER = "light-container"
BUILD_SECONDS = 1500
START_SECONDS = 60
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
    "delivery",
    "rollout",
    "scoring",
)


class BuiltImage(NamedTuple):
    """An image, its size in bytes, and how long it took to build."""

    name: str
    size: int
    seconds: float


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The container engine. Skipped, with the reason, where none runs."""
    try:
        return find_engine(os.environ.get("ENGINE"))
    except BackendUnavailableError as error:
        if request.config.getoption("require_container"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build_context(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What images are built from: this project with the road's model in it."""
    return write_context(tmp_path_factory.mktemp("context"), road.directory / "models/fashion_mnist")


@pytest.fixture(scope="session")
def embedded_image(engine: str, build_context: Path) -> BuiltImage:
    """The embedded server's image, built from what is here."""
    return build(engine, "embedded", build_context)


@pytest.fixture(scope="session")
def light_image(engine: str, build_context: Path) -> BuiltImage:
    """The image of the server on LiteRT, built from what is here."""
    return build(engine, "light", build_context)


@pytest.fixture(scope="session")
def serving_image(engine: str, request: pytest.FixtureRequest) -> BuiltImage:
    """SERVING_IMAGE, such as tensorflow/serving:2.21.0, or else our own image."""
    if name := os.environ.get("SERVING_IMAGE"):
        return BuiltImage(name, image_size(engine, name), 0)
    image: BuiltImage = request.getfixturevalue("embedded_image")
    return image


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
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=BUILD_SECONDS
    )
    assert process.returncode == 0, process.stdout[-4000:]
    return BuiltImage(tag, image_size(engine, tag), time.monotonic() - began)


def image_size(engine: str, image: str) -> int:
    """The size of an image in bytes, all layers together."""
    return int(run(engine, "image", "inspect", "--format={{.Size}}", image))


def run(engine: str, *arguments: str) -> str:
    """What the engine prints. Fails with what it says instead."""
    process = subprocess.run([engine, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, f"{arguments}: {process.stderr}"
    return process.stdout.strip()


@contextmanager
def running_container(
    engine: str, image: str, *arguments: str, volumes: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """A container of an image; volumes: what is mounted. Gives its name and the address of its REST port."""
    options = [*RESTRICTIONS, "--publish=127.0.0.1::8501", *(f"--volume={volume}" for volume in volumes)]
    name = run(engine, "run", "--detach", *options, image, *arguments)
    try:
        yield name, run(engine, "port", name, "8501").splitlines()[0]
    finally:
        remove(engine, name)


def remove(engine: str, name: str) -> None:
    """Ends a container and removes it."""
    # Podman's `rm --force` waits for its end, and gives up on a busy machine.
    subprocess.run([engine, "kill", name], capture_output=True, check=False, timeout=120)
    run(engine, "rm", "--force", name)


def is_healthy(engine: str, name: str) -> bool:
    """Whether the image's own health check passes in a container."""
    check = [engine, "exec", name, "/usr/local/bin/healthcheck.sh"]
    return subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0


def wait_until_healthy(engine: str, name: str) -> float:
    """The seconds until the image's own health check passes. Fails with the container's log."""
    began = time.monotonic()
    while not is_healthy(engine, name):
        log = subprocess.run([engine, "logs", name], capture_output=True, text=True, check=False)
        assert time.monotonic() - began < START_SECONDS, log.stdout + log.stderr
        assert run(engine, "inspect", "--format={{.State.Running}}", name) == "true", log.stdout + log.stderr
        time.sleep(0.2)
    return time.monotonic() - began
