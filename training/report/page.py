"""`report.html`: a run on one page that needs no network and no file beside it."""

from __future__ import annotations

import base64
import html
import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

import keras
import numpy as np

from fashion_common.files import write_whole
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit import optimizers
from training.fit.checkpoint import History
from training.fit.evaluate import Evaluation, predict
from training.origin import git_revision
from training.report import figures

REPORT = "report.html"
FIGURES_DIR = "figures"


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
    directory = run_dir / FIGURES_DIR
    directory.mkdir(exist_ok=True)
    _draw(directory, config, model, history, test, data)
    tiles = {
        "test accuracy": f"{test.accuracy:.4f}",
        "validation accuracy": f"{metrics['validation_accuracy']:.4f}",
        "fit": f"{metrics['fit_seconds']:.1f} s",
        "parameters": f"{metrics['parameters']:,}",
    }
    classes = [
        (name, f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", images)
        for name, precision, recall, f1, images in test.per_class()
    ]
    files = {name: value for name, value in metrics["data"].items() if name != "sha256"} | metrics["data"]["sha256"]
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).substitute(
        {path.stem: _data_url(path) for path in directory.glob("*.svg")},
        title=html.escape(f"{config.model} on {config.dataset}, recipe {config.recipe}"),
        origin=_origin(),
        tiles="".join(f"<div><b>{value}</b>{name}</div>" for name, value in tiles.items()),
        classes=_table(("class", "precision", "recall", "F1", "images"), classes),
        configuration=_table(("setting", "value"), config.to_json().items()),
        data=_table(("", ""), files.items()),
    )
    write_whole(run_dir / REPORT, page)


def _draw(
    directory: Path, config: TrainingConfig, model: keras.Model, history: History, test: Evaluation, data: Dataset
) -> None:
    images, labels = data.test_images, data.test_labels
    probabilities = predict(model, images)
    # Twelve rows: nine as they come, and the first three that the model gets wrong.
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)[:3].tolist()
    rows = sorted({*range(12 - len(wrong)), *wrong})[:12]
    rates = _learning_rates(config, history, len(data.train_labels))
    figures.save(directory / "samples", (6.0, 6.9), figures.samples, data.train_images, data.train_labels)
    figures.save(directory / "curves", (6.0, 6.9), figures.curves, history, rates)
    figures.save(
        directory / "predictions", (6.0, 8.4), figures.predictions, images[rows], labels[rows], probabilities[rows]
    )
    figures.save(directory / "confusion", (6.0, 5.6), figures.confusion, test.confusion)
    figures.save(directory / "mistakes", (6.0, 4.6), figures.mistakes, images, labels, probabilities)
    figures.save(directory / "hidden_units", (6.0, 3.0), figures.hidden_units, model.get_weights()[0])


def _learning_rates(config: TrainingConfig, history: History, train_images: int) -> dict[float, float]:
    """The learning rate by the epochs that are done: of each epoch in the history, else along the steps."""
    epochs = len(history["loss"])
    if "learning_rate" in history:
        return dict(enumerate(history["learning_rate"], start=1))
    rate = optimizers.learning_rate(config, train_images)
    steps = max(train_images // config.batch_size, 1)
    return {epoch: float(rate(epoch * steps)) if callable(rate) else rate for epoch in np.linspace(0, epochs, 101)}


def _origin() -> str:
    """When the page was written, by which command, and from which revision where that is known."""
    revision = git_revision()
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return " · ".join(
        [
            f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
            f"<code>{html.escape(command)}</code>",
            *([f"git {revision}"] if revision else []),
        ]
    )


def _data_url(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
