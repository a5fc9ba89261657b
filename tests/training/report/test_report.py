"""The pictures of a run and its page."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.fit.stages import Watch
from training.recipes import resolve
from training.report.page import FIGURES_DIR
from training.train import TrainingResult, train

FIGURES = ["confusion", "curves", "hidden_units", "mistakes", "predictions", "samples"]


def test_every_figure_is_there_as_png_and_svg(synthetic_run: TrainingResult) -> None:
    """Pictures that a viewer opens, on a transparent background."""
    directory = synthetic_run.run_dir / FIGURES_DIR
    assert sorted(path.name for path in directory.iterdir()) == [
        f"{name}.{form}" for name in FIGURES for form in ("png", "svg")
    ]
    for name in FIGURES:
        with Image.open(directory / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        assert pixels[0, 0, 3] == 0, name
        assert np.mean(pixels[..., 3] > 0) > 0.01, name
        assert ET.parse(directory / f"{name}.svg").getroot().tag.endswith("svg")  # noqa: S314 - we wrote it


def test_ink_can_be_read_on_white_and_on_black() -> None:
    """Contrast of at least 3 to 1 on both (WCAG 2.1, 1.4.11)."""
    from training.report import figures

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in (figures.INK, figures.BLUE, figures.ORANGE, figures.RED, figures.GREEN):
        for page in ("#ffffff", "#0d1117"):
            lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (colour, page)


def test_report_needs_nothing_but_itself(synthetic_run: TrainingResult) -> None:
    """Six embedded pictures, no address of anything else."""
    page = (synthetic_run.run_dir / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 6
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(content)
    assert not re.search(r"https?://|@import|<script|<link", page)


def test_report_has_the_figures_of_the_run(synthetic_run: TrainingResult) -> None:
    """Accuracy, every class, every setting, the data."""
    page = (synthetic_run.run_dir / "report.html").read_text()
    assert f"<b>{synthetic_run.test.accuracy:.4f}</b>test accuracy" in page
    assert "<td>Ankle boot</td>" in page
    for name, value in synthetic_run.config.to_json().items():
        assert f"<td>{name}</td><td>{value}</td>" in page
    assert "<td>name</td><td>synthetic</td>" in page


@pytest.mark.parametrize("model", ["perceptron"])
def test_a_perceptron_has_pictures_too(model: str, tmp_path: Path) -> None:
    """Its ten outputs are what there is to look at; one epoch makes one point of a curve."""
    config = resolve("fast", dataset="synthetic", model=model, epochs=1)
    result = train(config, tmp_path / "run", watch=Watch(pictures=True))
    with Image.open(result.run_dir / FIGURES_DIR / "hidden_units.png") as picture:
        assert picture.width > picture.height
