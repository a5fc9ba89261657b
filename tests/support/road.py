"""The whole road, walked once for all tests that begin at its end: trained, exported, served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.support.console import PASSED, fashion
from tests.support.live_backend import LiveBackend


class Road(NamedTuple):
    """Where everything lies, and where the server listens: `servers` by API, grpc and rest."""

    directory: Path
    run: Path
    servers: dict[str, str]


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Trains on synthetic garments, exports and serves, each as a user does: one command."""
    directory = tmp_path_factory.mktemp("road")
    training = fashion("train", "--dataset", "synthetic", "--run-dir", "runs/one", "--seed", 1, cwd=directory)
    summary = r"runs/one: validation accuracy \d\.\d{4}, test accuracy \d\.\d{4}, fit \d+\.\d s\n"
    assert re.fullmatch(summary, training.stdout), training.stderr
    export = fashion("export", "runs/one", cwd=directory)
    assert (export.returncode, export.stdout) == (0, "models/fashion_mnist/1\n")
    assert re.fullmatch(PASSED, export.stderr)
    server = LiveBackend("embedded", directory=directory)
    server.start()
    yield Road(directory, directory / "runs/one", server.servers)
    code, _ = server.stop()
    assert code == 0
    assert server.log.read_text().endswith("Stopped.\n")


@pytest.fixture(scope="session")
def pictures(road: Road) -> dict[Path, npt.NDArray[np.uint8]]:
    """One synthetic test image a class, as PNG in the road's directory."""
    from training.data import synthetic

    data = synthetic.load(seed=1)
    images = {}
    for class_id in range(10):
        image = data.test_images[int(np.flatnonzero(data.test_labels == class_id)[0])]
        path = road.directory / f"{class_id}.png"
        Image.fromarray(image).save(path)
        images[path] = image
    return images
