"""What all tests share: the whole road, walked once, with a live server at its end; images, where an engine runs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from serving.launch.backends import BACKENDS
from serving.launch.choose import find_engine
from serving.launch.errors import BackendUnavailableError
from tests.support.containers import BuiltImage, build, image_size, write_context
from tests.support.road import FASHION, Road, fashion

if TYPE_CHECKING:
    from training.data.dataset import Dataset

START_SECONDS = 60
_LISTENING = re.compile(r"gRPC  (grpc://\S+)\nREST  (http://[^/\s]+)/v1/models/fashion_mnist\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which servers the end-to-end tests talk to."""
    group = parser.getgroup("servers")
    group.addoption("--server-backend", action="append", choices=list(BACKENDS), help="Only this one; again for more.")
    group.addoption("--server-address", metavar="URL,URL", help="A server that runs: grpc://HOST:PORT,http://HOST:PORT")
    group.addoption("--keras-model", metavar="FILE", help="The .keras model that --server-address serves.")
    group.addoption("--require-container", action="store_true", help="Fail, not skip, where no container engine runs.")


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
def serving_image(engine: str, request: pytest.FixtureRequest) -> BuiltImage:
    """SERVING_IMAGE, such as tensorflow/serving:2.21.0, or else our own image."""
    if name := os.environ.get("SERVING_IMAGE"):
        return BuiltImage(name, image_size(engine, name), 0)
    image: BuiltImage = request.getfixturevalue("embedded_image")
    return image


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Trains on synthetic garments, exports and serves, each as a user does: one command."""
    directory = tmp_path_factory.mktemp("road")
    trained = fashion("train", "--dataset", "synthetic", "--run-dir", "runs/one", "--seed", 1, cwd=directory)
    assert re.fullmatch(
        r"runs/one: validation accuracy \d\.\d{4}, test accuracy \d\.\d{4}, fit \d+\.\d s\n", trained.stdout
    )
    exported = fashion("export", "runs/one", cwd=directory)
    assert (exported.returncode, exported.stdout) == (0, "models/fashion_mnist/1\n")
    passed = r"Self-test passed: 4 signatures answer as Keras does, within \d\.\de-\d\d\n"
    assert re.fullmatch(passed, exported.stderr)
    log = directory / "serve.log"
    command = [FASHION, "serve", "--backend", "embedded", "--port", "0", "--rest-port", "0"]
    with (
        log.open("w") as stdout,
        subprocess.Popen(command, cwd=directory, stdout=stdout, stderr=subprocess.STDOUT) as server,
    ):
        try:
            give_up = time.monotonic() + START_SECONDS
            while not (found := _LISTENING.search(log.read_text())):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < give_up, log.read_text()
                time.sleep(0.05)
            yield Road(directory, directory / "runs/one", {"grpc": found[1], "rest": found[2]})
        finally:
            server.terminate()
            code = server.wait(timeout=15)
    assert code == 0
    assert log.read_text().endswith("Stopped.\n")


@pytest.fixture(scope="session")
def real_data() -> Dataset:
    """Fashion-MNIST as the package finds it; the test is skipped, with the reason, where it cannot be had."""
    from training.data import dataset
    from training.errors import TrainingUsageError

    try:
        return dataset.load()
    except TrainingUsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pictures(road: Road) -> dict[Path, np.ndarray]:
    """One synthetic test image a class, as PNG in the road's directory."""
    from training.data import synthetic

    data = synthetic.load(seed=1)
    found = {}
    for class_id in range(10):
        image = data.test_images[int(np.flatnonzero(data.test_labels == class_id)[0])]
        path = road.directory / f"{class_id}.png"
        Image.fromarray(image).save(path)
        found[path] = image
    return found
