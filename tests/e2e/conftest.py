"""The live servers of the end-to-end tests: one for each backend that this machine has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from serving.launch.backends import BACKENDS, MODEL_SERVER
from tests.support.containers import LIGHT_CONTAINER, BuiltImage
from tests.support.live_backend import LiveBackend
from tests.support.road import Road

ADDRESS = "address"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test of `live` once for each backend."""
    if "live" in metafunc.fixturenames:
        config = metafunc.config
        address = config.getoption("server_address")
        backends = [ADDRESS] if address else config.getoption("server_backend") or [*BACKENDS, LIGHT_CONTAINER]
        metafunc.parametrize("live", backends, indirect=True, scope="session")


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    """A server of the backend, on a copy of the road's model. Skipped, with the reason, where there is no such one."""
    backend: str = request.param
    if backend == ADDRESS:
        given = request.config.getoption("server_address").split(",")
        yield LiveBackend(backend, {"rest" if url.startswith("http") else "grpc": url for url in given})
        return
    arguments: tuple[str, ...] = ()
    engine = ""
    if backend in ("container", LIGHT_CONTAINER):
        engine = request.getfixturevalue("engine")
        image: BuiltImage = request.getfixturevalue("serving_image" if backend == "container" else "light_image")
        arguments = ("--engine", engine, "--image", image.name)
    if backend == "binary" and shutil.which(MODEL_SERVER) is None:
        pytest.skip(f"{MODEL_SERVER} is not on the PATH")
    road: Road = request.getfixturevalue("road")
    directory = tmp_path_factory.mktemp(backend)
    shutil.copytree(road.directory / "models", directory / "models")
    server = LiveBackend("container" if engine else backend, {}, directory, arguments, engine)
    server.start()
    yield server
    assert server.process is not None
    if server.process.poll() is None:
        code, _ = server.stop()
        assert code == 0, (directory / "serve.log").read_text()


@pytest.fixture
def ours(live: LiveBackend) -> LiveBackend:
    """A server that the test may stop, and whose models it may change."""
    if live.directory is None:
        pytest.skip("--server-address: that server is not ours to stop or change")
    return live


@pytest.fixture(scope="session")
def images(pictures: dict[Path, np.ndarray]) -> np.ndarray:
    """The pictures' pixels: uint8 [10, 28, 28]."""
    return np.stack(list(pictures.values()))


@pytest.fixture(scope="session")
def keras_probabilities(road: Road, images: np.ndarray, request: pytest.FixtureRequest) -> np.ndarray:
    """What the model itself answers: float32 [10, 10]."""
    path = request.config.getoption("keras_model")
    if path is None and request.config.getoption("server_address"):
        pytest.skip("--server-address: --keras-model is needed to say which model that server has")
    model = keras.models.load_model(path or road.run / "model.keras")
    probabilities: np.ndarray = model(images.astype(np.float32) / 255).numpy()
    return probabilities
