"""The pictures of a run and its page."""

from __future__ import annotations

import base64
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tools import demo
from training.data import synthetic
from training.fit.stages import Watch
from training.recipes import resolve
from training.report import figures, page
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

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in (figures.INK, figures.BLUE, figures.ORANGE, figures.RED, figures.GREEN):
        for ground in ("#ffffff", "#0d1117"):
            lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (colour, ground)


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


def painted(path: Path) -> NDArray[np.uint8]:
    """The pixels of a PNG that hide what is behind them, uint8 [N,3]."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    return pixels[pixels[..., 3] > 200][:, :3]


@pytest.mark.parametrize("name", ["confusion", "hidden_units"])
def test_no_figure_is_a_slab_of_one_scheme(name: str, synthetic_run: TrainingResult) -> None:
    """What lies between the numbers and the weights shows the page, light or dark: next to nothing is painted white."""
    with Image.open(synthetic_run.run_dir / FIGURES_DIR / f"{name}.png") as picture:
        size = picture.width * picture.height
    white = (painted(synthetic_run.run_dir / FIGURES_DIR / f"{name}.png") > 230).all(axis=1).sum()
    assert white < size / 50


def test_text_of_an_svg_follows_the_page_s_scheme(synthetic_run: TrainingResult) -> None:
    """Dark on a light page, light on a dark one; the PNG keeps the gray that both can show."""
    for path in (synthetic_run.run_dir / FIGURES_DIR).glob("*.svg"):
        svg = path.read_text()
        assert f'[style*="fill: {figures.INK}"] {{ fill: #1f2328 !important }}' in svg, path
        assert f'(prefers-color-scheme: dark) {{ [style*="fill: {figures.INK}"] {{ fill: #e6edf3' in svg, path
    assert (
        f"fill: {figures.INK}" in (synthetic_run.run_dir / FIGURES_DIR / "curves.svg").read_text().split("</style>")[1]
    )


def test_bars_have_their_numbers() -> None:
    """From one percent on; what is less has none."""
    probabilities = np.array([[0.934, 0.06, 0.006] + [0.0] * 7], np.float32)
    figure = Figure()
    figures.predictions(figure, np.zeros((1, 28, 28), np.uint8), np.array([0]), probabilities)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if "%" in text] == ["93%", "6%"]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"recipe": "fast", "warmup": 0.5}, {0.0: 0.002, 1.0: 0.02, 2.0: 0.0}),
        ({"recipe": "textbook"}, {0.0: 0.001, 1.0: 0.001, 2.0: 0.001}),
        ({"recipe": "textbook", "schedule": "exponential"}, {1.0: 0.001, 2.0: 0.0009}),
    ],
)
def test_learning_rates_go_as_the_schedule_says(settings: dict[str, str], rates: dict[float, float]) -> None:
    """By steps along a cosine after its rise, the same throughout, or a tenth less for each epoch."""
    config = resolve(dataset="synthetic", epochs=2, **settings)
    history = {"loss": [1.0, 0.5]}
    if config.schedule == "exponential":
        history["learning_rate"] = [0.001, 0.0009]
    curve = page._learning_rates(config, history, synthetic.SIZES["train"])
    assert {epoch: curve[epoch] for epoch in rates} == pytest.approx(rates, abs=1e-4)
    figure = Figure()
    figures.curves(figure, history | {key: [1.0, 0.5] for key in ("val_loss", "accuracy", "val_accuracy")}, curve)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert len(figure.axes[2].lines) == 1


def test_every_figure_says_what_to_see(synthetic_run: TrainingResult) -> None:
    """A heading, one sentence, the picture."""
    text = (synthetic_run.run_dir / "report.html").read_text()
    sections = re.findall(r"<section>\n<h2>.+</h2>\n<p>([^<]+)</p>\n<img alt=\".+\" src=\"data:", text)
    assert len(sections) == 6
    for sentence in sections:
        assert re.fullmatch(r"[A-Z][^.]+\.", sentence), sentence


def test_report_says_when_by_which_command_and_from_which_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as it was typed, escaped; outside of a checkout nothing of a revision."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fashion", "train", "--run-dir", "a b<c"])
    for revision, end in (("0123abc-dirty", " · git 0123abc-dirty"), (None, "")):
        monkeypatch.setattr(page, "git_revision", lambda revision=revision: revision)
        when, line = page._origin().split(" · ", 1)
        assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d", when)
        assert line == f"<code>fashion train --run-dir &#x27;a b&lt;c&#x27;</code>{end}"


def test_demo_draws_garments_as_the_report_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A black image is black in both: light garments on a dark ground, as in the data set."""
    images = np.zeros((10, 28, 28), np.uint8)
    monkeypatch.setattr(demo, "FIGURE", tmp_path / "demo.png")
    demo._save_figure(images, [{"class_name": "Bag", "probability": 1.0}] * 10)
    figures.save(tmp_path / "samples", (4, 4), figures.samples, images, np.zeros(10, np.int64))
    for name in ("demo.png", "samples.png"):
        assert (painted(tmp_path / name) < 10).all(axis=1).mean() > 0.3, name


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
