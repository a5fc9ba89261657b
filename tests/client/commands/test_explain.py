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
def test_it_shows_what_the_model_saw(
    road: Road, predictions: dict[Path, Prediction], pictures: dict[Path, np.ndarray], api: str, tmp_path: Path
) -> None:
    """The picture, its statistics against the training set's, the answers for its variants; all drawn side by side."""
    path, prediction = next(iter(predictions.items()))
    result = run(road, api, "explain", path, "--output", tmp_path / "picture.png")
    assert "mean pixel" in result.output
    assert f"as it is    {prediction.class_name}  {prediction.probability:.4f}\n" in result.output
    with Image.open(tmp_path / "picture.png") as drawing:
        original, saw = (np.asarray(drawing.crop((left, 10, left + 280, 290)).convert("L")) for left in (10, 300))
        bars = np.asarray(drawing)[10:290, 590:]
    np.testing.assert_array_equal(saw[5::10, 5::10], pictures[path])
    assert np.abs(original[5::10, 5::10].astype(int) - pictures[path]).mean() < 20
    # The answer's bar is blue; its middle is in its class's row.
    rows = np.flatnonzero((bars == (9, 105, 218)).all(axis=2).any(axis=1))
    assert rows.mean() // 28 == prediction.class_id
    report = json.loads(run(road, api, "explain", path, "--json").output)
    assert sorted(report["answers"]) == ["as it is", "inverted", "trimmed"]
    assert [line[6:] for line in result.output.splitlines() if line.startswith("hint: ")] == report["hints"]


def test_it_hints_at_a_light_background(road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path) -> None:
    """The usual mistake: a dark garment on white, sent as it is."""
    path = tmp_path / "inverted.png"
    Image.fromarray(255 - next(iter(pictures.values()))).save(path)
    result = run(road, "grpc", "explain", path)
    assert result.exit_code == 0
    hints = [line for line in result.output.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1, result.output
    assert result.stderr == (
        f"Warning: {path}: lighter than the training set: is the background light? --preprocess photo makes it black\n"
    )


def test_a_drawing_that_cannot_be_written_is_an_error_and_leaves_nothing(
    road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path
) -> None:
    """Formats that no picture is written in are named; a file appears only when it is whole."""
    path = next(iter(pictures))
    (tmp_path / "no.png").write_bytes(b"")
    for output, text in (
        (tmp_path / "drawing.psd", "no picture can be written as .psd: name it .png"),
        (tmp_path / "drawing.txt", "no picture can be written as .txt: name it .png"),
        (tmp_path / "no.png" / "a.png", "cannot be written"),
    ):
        result = run(road, "grpc", "explain", path, "--output", output)
        assert (result.exit_code, result.stdout) == (2, "")
        assert text in result.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["no.png"]
    assert run(road, "grpc", "explain", path, "--output", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
