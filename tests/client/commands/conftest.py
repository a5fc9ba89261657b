"""What the commands' tests share: the library's predictions, to compare with what the commands print."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client import Prediction, connect
from tests.support.road import Road


@pytest.fixture(scope="session")
def predictions(road: Road, pictures: dict[Path, np.ndarray]) -> dict[Path, Prediction]:
    """The library's prediction for each picture."""
    with connect(road.servers["grpc"]) as connection:
        return dict(zip(pictures, connection.predict(list(pictures.values())), strict=True))
