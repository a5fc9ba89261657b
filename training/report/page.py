"""`report.html`: a run on one page that needs no network and nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

from fashion_common.files import write_whole
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit.evaluate import Evaluation, probabilities
from training.report import figures

REPORT = "report.html"
FIGURES_DIR = "figures"
_CAPTIONS = {
    "samples": "The first 25 training images",
    "curves": "Loss and accuracy by epoch",
    "predictions": "Twelve test images and what the model says",
    "confusion": "Test images by true and predicted class",
    "mistakes": "The mistakes that the model is surest of",
    "hidden_units": "What the first layer looks at",
}


def write_figures(
    run_dir: Path, model: keras.Model, history: Mapping[str, list[float]], test: Evaluation, data: Dataset
) -> None:
    """Draws every figure of the run into `figures/`, as PNG and SVG. Raises OSError."""
    directory = run_dir / FIGURES_DIR
    directory.mkdir(exist_ok=True)
    predicted = probabilities(model, data.test_images)
    shown = _some_right_and_wrong(predicted, data)
    kernel = model.get_weights()[0]
    columns = figures.hidden_columns(kernel.shape[1])
    rows = -(-kernel.shape[1] // columns)
    figures.save(directory / "samples", lambda f: figures.samples(f, data.train_images, data.train_labels), (6.0, 6.9))
    figures.save(directory / "curves", lambda f: figures.curves(f, history), (8.0, 3.2))
    figures.save(
        directory / "predictions",
        lambda f: figures.predictions(f, data.test_images[shown], data.test_labels[shown], predicted[shown]),
        (9.0, 5.8),
    )
    figures.save(directory / "confusion", lambda f: figures.confusion(f, test), (6.4, 5.8))
    figures.save(
        directory / "mistakes",
        lambda f: figures.mistakes(f, data.test_images, data.test_labels, predicted),
        (8.0, 4.9),
    )
    figures.save(
        directory / "hidden_units",
        lambda f: figures.hidden_units(f, kernel),
        (8.0, 8.0 * rows / columns + 0.3),
    )


def write_report(run_dir: Path, config: TrainingConfig, metrics: Mapping[str, object], test: Evaluation) -> None:
    """Writes the page from the figures that `write_figures` drew. Raises OSError."""
    title = f"{config.model} on {config.dataset}, recipe {config.recipe}"
    data = metrics["data"]
    assert isinstance(data, dict)
    headline = {
        "test accuracy": f"{test.accuracy:.4f}",
        "validation accuracy": f"{metrics['validation_accuracy']:.4f}",
        "fit": f"{metrics['fit_seconds']:.1f} s",
        "parameters": f"{metrics['parameters']:,}",
    }
    per_class = [
        (report.class_name, f"{report.precision:.3f}", f"{report.recall:.3f}", f"{report.f1:.3f}", str(report.images))
        for report in test.per_class()
    ]
    digests = data.get("sha256")
    origin = [(name, value) for name, value in data.items() if name != "sha256"]
    page = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>',
        f"<h1>{html.escape(title)}</h1><div class=tiles>",
        *(f"<div><b>{value}</b>{name}</div>" for name, value in headline.items()),
        "</div>",
        *(_figure(run_dir / FIGURES_DIR / f"{name}.svg", caption) for name, caption in _CAPTIONS.items()),
        "<h2>Test images by class</h2>",
        _table(("class", "precision", "recall", "F1", "images"), per_class),
        "<h2>Configuration</h2>",
        _table(("setting", "value"), [(name, str(value)) for name, value in config.to_json().items()]),
        "<h2>Data</h2>",
        _table(("", ""), [(name, str(value)) for name, value in [*origin, *(digests or {}).items()]]),
        "</body></html>",
    ]
    write_whole(run_dir / REPORT, "\n".join(page))


def _some_right_and_wrong(predicted: figures.Probabilities, data: Dataset) -> list[int]:
    """Nine test images as they come and the first three that the model gets wrong."""
    wrong = np.flatnonzero(predicted.argmax(axis=1) != data.test_labels)[:3].tolist()
    return sorted({*range(12 - len(wrong)), *wrong})[:12]


def _figure(path: Path, caption: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" src="data:image/svg+xml;base64,{content}">'
        "</figure>"
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1f2328; --faint: #656d76; --line: #d8dee4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #30363d; }
}
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 2rem; }
.tiles div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; color: var(--faint); }
.tiles b { display: block; font-size: 1.5rem; color: var(--ink); font-variant-numeric: tabular-nums; }
figure { margin: 2.5rem 0; } figcaption { font-weight: 600; margin-bottom: .5rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
"""
