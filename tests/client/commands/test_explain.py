"""`fashion explain` against a live server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from client.types import Prediction
from tests.support.client_commands import APIS, run
from tests.support.road import Road


@APIS
def test_it_shows_what_the_model_saw(road: Road, predictions: dict[Path, Prediction], api: str, tmp_path: Path) -> None:
    """The picture, its statistics against the training set's, the answers for its variants; enlarged as PNG."""
    path, prediction = next(iter(predictions.items()))
    result = run(road, api, "explain", path, "--output", tmp_path / "picture.png")
    assert "mean pixel" in result.output
    assert f"as it is    {prediction.class_name}  {prediction.probability:.4f}\n" in result.output
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (280, 280)
    report = json.loads(run(road, api, "explain", path, "--json").output)
    assert sorted(report["answers"]) == ["as it is", "inverted", "trimmed"]


def test_it_hints_at_a_light_background(road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path) -> None:
    """The usual mistake: a dark garment on white, sent as it is."""
    path = tmp_path / "inverted.png"
    Image.fromarray(255 - next(iter(pictures.values()))).save(path)
    assert "is the background light? --preprocess photo makes it black" in run(road, "grpc", "explain", path).output
