"""`report.html`: a run on one page that needs no network and no file beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

from fashion_common.files import write_whole
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit.checkpoint import History
from training.fit.evaluate import Evaluation, predict
from training.report import figures

REPORT = "report.html"
FIGURES_DIR = "figures"


class _Picture(NamedTuple):
    name: str
    caption: str
    size: tuple[float, float]  # inches
    draw: Callable[[Figure], None]


def write_report(
    run_dir: Path,
    config: TrainingConfig,
    metrics: Mapping[str, Any],
    model: keras.Model,
    history: History,
    test: Evaluation,
    data: Dataset,
) -> None:
    """Draws the run's figures into `figures/`, as PNG and SVG, and writes the page of them and of `metrics.json`.

    Raises OSError.
    """
    pictures = _pictures(model, history, test, data)
    directory = run_dir / FIGURES_DIR
    directory.mkdir(exist_ok=True)
    for picture in pictures:
        figures.save(directory / picture.name, picture.draw, picture.size)
    title = html.escape(f"{config.model} on {config.dataset}, recipe {config.recipe}")
    headline = {
        "test accuracy": f"{test.accuracy:.4f}",
        "validation accuracy": f"{metrics['validation_accuracy']:.4f}",
        "fit": f"{metrics['fit_seconds']:.1f} s",
        "parameters": f"{metrics['parameters']:,}",
    }
    per_class = [
        (name, f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", str(images))
        for name, precision, recall, f1, images in test.per_class()
    ]
    origin = {name: value for name, value in metrics["data"].items() if name != "sha256"} | metrics["data"]["sha256"]
    page = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>',
        f"<h1>{title}</h1><div class=tiles>",
        *(f"<div><b>{value}</b>{name}</div>" for name, value in headline.items()),
        "</div>",
        *(_figure(directory / f"{picture.name}.svg", picture.caption) for picture in pictures),
        "<h2>Test images by class</h2>",
        _table(("class", "precision", "recall", "F1", "images"), per_class),
        "<h2>Configuration</h2>",
        _table(("setting", "value"), [(name, str(value)) for name, value in config.to_json().items()]),
        "<h2>Data</h2>",
        _table(("", ""), [(name, str(value)) for name, value in origin.items()]),
        "</body></html>",
    ]
    write_whole(run_dir / REPORT, "\n".join(page))


def _pictures(model: keras.Model, history: History, test: Evaluation, data: Dataset) -> list[_Picture]:
    images, labels = data.test_images, data.test_labels
    probabilities = predict(model, images)
    rows = _right_and_wrong(probabilities, labels)
    kernel = model.get_weights()[0]
    columns, lines = figures.hidden_grid(kernel.shape[1])
    return [
        _Picture(
            "samples",
            "The first 25 training images",
            (6.0, 6.9),
            partial(figures.samples, images=data.train_images, labels=data.train_labels),
        ),
        _Picture("curves", "Loss and accuracy by epoch", (8.0, 3.2), partial(figures.curves, history=history)),
        _Picture(
            "predictions",
            "Twelve test images and what the model says",
            (9.0, 5.8),
            partial(figures.predictions, images=images[rows], labels=labels[rows], probabilities=probabilities[rows]),
        ),
        _Picture(
            "confusion",
            "Test images by true and predicted class",
            (6.4, 5.8),
            partial(figures.confusion, counts=test.confusion),
        ),
        _Picture(
            "mistakes",
            "The mistakes that the model is surest of",
            (8.0, 4.9),
            partial(figures.mistakes, images=images, labels=labels, probabilities=probabilities),
        ),
        _Picture(
            "hidden_units",
            "What the first layer looks at",
            (8.0, 8.0 * lines / columns + 0.3),
            partial(figures.hidden_units, kernel=kernel),
        ),
    ]


def _right_and_wrong(probabilities: figures.Probabilities, labels: figures.Labels) -> list[int]:
    """Twelve rows: nine as they come, and the first three that the model gets wrong."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)[:3].tolist()
    return sorted({*range(12 - len(wrong)), *wrong})[:12]


def _figure(path: Path, caption: str) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" src="{source}"></figure>'


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
