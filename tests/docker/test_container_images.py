"""The images as they are built here: size, start, user, signals, labels, health."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import httpx
import pytest

from serving.launch.backends import RESTRICTIONS
from tests.scoring.conftest import parquet
from tests.support.containers import (
    BuiltImage,
    build,
    image_size,
    is_healthy,
    run,
    running_container,
    wait_until_healthy,
)
from tests.support.keys import key_pair
from tests.support.live import wait_until
from tests.support.road import Road

# The first of them builds an image.
pytestmark = pytest.mark.timeout(1800)
CLIENT_MB = 120
LIGHT_MB = 300
STOP_SECONDS = 5


@pytest.fixture(scope="module")
def stand_in_image(engine: str, embedded_image: BuiltImage, build_context: Path) -> BuiltImage:
    """serving.Dockerfile on the embedded image, which has a `tensorflow_model_server` too: no registry is needed."""
    return build(engine, "serving", build_context, base_image=embedded_image.name)


@pytest.mark.parametrize("which", ["embedded_image", "light_image", "stand_in_image"])
def test_a_server_image_serves_its_own_model_restricted(
    which: str, engine: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing mounted, nothing configured: healthy, not root, and gone within seconds of SIGTERM."""
    image: BuiltImage = request.getfixturevalue(which)
    with running_container(engine, image.name) as (name, address):
        seconds = wait_until_healthy(engine, name)
        answer = httpx.get(f"http://{address}/v1/models/fashion_mnist/labels/stable/metadata", timeout=10)
        assert answer.status_code == 200
        assert answer.json()["model_spec"]["version"] == "1"
        assert run(engine, "exec", name, "id", "-u") == "1000"
        # The server itself is process 1: the entry point has made way for it.
        assert "serving.embedded" in run(engine, "exec", name, "cat", "/proc/1/cmdline")
        began = time.monotonic()
        run(engine, "stop", "--time=30", name)
        stopped = time.monotonic() - began
        assert stopped < STOP_SECONDS
        assert run(engine, "inspect", "--format={{.State.ExitCode}}", name) == "0"
    with capsys.disabled():
        print(
            f"\n{image.name}: {image.size / 1e6:.0f} MB, built in {image.seconds:.0f} s, "
            f"AVAILABLE after {seconds:.1f} s, stopped after {stopped:.1f} s"
        )


def test_the_health_check_fails_without_a_model(engine: str, embedded_image: BuiltImage) -> None:
    """It looks at the model's state, not at the process."""
    with running_container(engine, embedded_image.name, "--model_base_path=/config") as (name, _):
        assert not is_healthy(engine, name)


def test_other_arguments_are_taken_as_the_official_image_takes_them(engine: str, embedded_image: BuiltImage) -> None:
    """Flags after the image, MODEL_NAME and MODEL_BASE_PATH from the environment."""
    with running_container(engine, embedded_image.name, "--rest_api_timeout_in_ms=1000") as (name, address):
        wait_until_healthy(engine, name)
        versions = httpx.get(f"http://{address}/v1/models/fashion_mnist", timeout=10).json()["model_version_status"]
        assert [version["version"] for version in versions] == ["1"]


def test_labels_say_what_is_in_it(engine: str, embedded_image: BuiltImage) -> None:
    """OCI's names, and the version of the model."""
    labels = json.loads(run(engine, "image", "inspect", "--format={{json .Config.Labels}}", embedded_image.name))
    assert labels["org.opencontainers.image.title"] == "fashion-embedded"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == "1"


def test_the_light_image_is_small(engine: str, light_image: BuiltImage) -> None:
    """At most 300 MB in all, and no TensorFlow in it."""
    assert light_image.size <= LIGHT_MB * 1e6
    command = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is not None)"
    run(engine, "run", "--rm", *RESTRICTIONS, "--entrypoint=python3", light_image.name, "-c", command)


@pytest.mark.parametrize("which", ["embedded_image", "light_image"])
def test_a_server_image_serves_what_is_signed_alone(
    which: str, engine: str, request: pytest.FixtureRequest, road: Road, tmp_path: Path
) -> None:
    """With --require_signature; the version before an unsigned one serves on."""
    image: BuiltImage = request.getfixturevalue(which)
    models, key = tmp_path / "models", key_pair(tmp_path, "release")
    exported = road.directory / "models/fashion_mnist/1"
    shutil.copytree(exported, models / "1")
    key.sign(models / "1")
    # The image's user is not the one of the tests.
    key.public.chmod(0o644)
    arguments = ["--model_base_path=/signed", "--require_signature=/release.pub", "--file_system_poll_wait_seconds=1"]
    volumes = [f"{models}:/signed:ro", f"{key.public}:/release.pub:ro"]
    with running_container(engine, image.name, *arguments, volumes=volumes) as (name, address):
        wait_until_healthy(engine, name)
        shutil.copytree(exported, tmp_path / "2")
        (tmp_path / "2").rename(models / "2")

        def states() -> dict[str, tuple[str, str]]:
            versions = httpx.get(f"http://{address}/v1/models/fashion_mnist", timeout=10).json()["model_version_status"]
            return {each["version"]: (each["state"], each["status"]["error_code"]) for each in versions}

        wait_until(lambda: states().get("2", ("", "OK"))[1] != "OK")
        assert states() == {"1": ("AVAILABLE", "OK"), "2": ("END", "FAILED_PRECONDITION")}


def test_the_client_image_is_small_and_works(
    engine: str, build_context: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most 120 MB above its base, no TensorFlow, and `fashion` in it answers."""
    image = build(engine, "client", build_context)
    above = image.size - image_size(engine, "python:3.11-slim-bookworm")
    assert above <= CLIENT_MB * 1e6
    assert run(engine, "run", "--rm", *RESTRICTIONS, image.name, "--version").startswith("fashion, version ")
    assert "status" in run(engine, "run", "--rm", *RESTRICTIONS, image.name, "status", "--help")
    with capsys.disabled():
        print(f"\n{image.name}: {image.size / 1e6:.0f} MB, {above / 1e6:.0f} MB above its base")


@pytest.mark.parametrize("name", ["score", "score-ray"])
def test_a_job_scores_in_the_image(name: str, engine: str, build_context: Path, tmp_path: Path) -> None:
    """With the model that is in it, as the manifests in docker/kubernetes/score run it."""
    image = build(engine, name, build_context)
    # The image's user is not the one of the tests.
    tmp_path.chmod(0o777)
    parquet(tmp_path / "rows.parquet", 20)
    options = ["--engine=ray"] if name == "score-ray" else []
    # Ray writes into the home, which the image's user has none of.
    limits = (
        ["--env=HOME=/tmp"]
        if options
        else ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    )
    mount = f"--volume={tmp_path}:/data"
    command = ["score", "/data/rows.parquet", "--model=/models/fashion_mnist", "--output=/data/out", *options]
    told = run(engine, "run", "--rm", *limits, mount, "--entrypoint=fashion", image.name, *command)
    assert told.splitlines()[-1].startswith("20 rows in 1 parts in /data/out, ")
