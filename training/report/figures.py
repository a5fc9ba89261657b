"""The pictures of a run, as PNG and SVG.

Backgrounds are transparent; text and lines have a middle gray and colours that can be told apart on white and on near
black alike (contrast of 3 to 1, https://www.w3.org/TR/WCAG21/#non-text-contrast). Nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from training.fit.checkpoint import History

INK = "#7d838c"  # contrast of 3.8 on white, 4.9 on #0d1117
BLUE = "#3b82d6"
ORANGE = "#d9772b"
RED = "#d9534f"
GREEN = "#2f9e62"
DPI = 130
_DARK_CELL = 0.5

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]

_STYLE: Any = {  # matplotlib's own type lists all its 300 settings
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "fashion",
    "figure.constrained_layout.use": True,
}


def save(path: Path, draw: Callable[[Figure], None], size: tuple[float, float]) -> None:
    """Draws one figure of `size` in inches and writes `<path>.png` and `<path>.svg`. Raises OSError."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size)
        draw(figure)
        figure.savefig(path.with_suffix(".png"), dpi=DPI)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def samples(figure: Figure, images: Images, labels: Labels) -> None:
    """The first 25 images, uint8 [N,28,28], with the class names of their labels, int64 [N]."""
    axes = _canvas(figure, columns=5, rows=5, cell=(1.0, 1.16))
    for number in range(min(25, len(images))):
        x, y = number % 5, number // 5 * 1.16
        _image(axes, images[number], x, y)
        axes.text(x + 0.46, y + 1.02, CLASS_NAMES[labels[number]], ha="center", va="center")


def curves(figure: Figure, history: History) -> None:
    """Loss and accuracy by epoch, training against validation, each line named at its end."""
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label, colour, style in (
            (name, "training", BLUE, "--"),
            (f"val_{name}", "validation", ORANGE, "-"),
        ):
            values = history[key]
            epochs = range(1, len(values) + 1)
            axes.plot(
                epochs,
                values,
                style,
                color=colour,
                label=label,
                marker="o",
                markersize=4,
                markevery=-(-len(values) // 12),
            )
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=INK, alpha=0.2, linewidth=0.6)
        axes.legend(frameon=False)


def predictions(figure: Figure, images: Images, labels: Labels, probabilities: Probabilities) -> None:
    """Twelve images with the probability of each class; a wrong answer is crossed and says what is right."""
    columns, rows, cell = 3, 4, (2.9, 1.36)
    axes = _canvas(figure, columns, rows, cell)
    for number in range(min(columns * rows, len(images))):
        x, y = number % columns * cell[0], number // columns * cell[1]
        best, label = int(probabilities[number].argmax()), int(labels[number])
        right = best == label
        _image(axes, images[number], x, y)
        verdict = f"✓ {CLASS_NAMES[best]}" if right else f"✗ {CLASS_NAMES[best]}, is {CLASS_NAMES[label]}"
        axes.text(x, y + 1.06, verdict, color=GREEN if right else RED, va="center", fontweight="bold")
        _bars(axes, probabilities[number], (x + 1.75, y), highlights={label: GREEN, best: GREEN if right else RED})


def confusion(figure: Figure, counts: NDArray[np.int64]) -> None:
    """How many images of each true class (row) got which class (column), [10,10]; shaded by the share of the row."""
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if shares[row, column] > _DARK_CELL else "#2b3440"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def mistakes(figure: Figure, images: Images, labels: Labels, probabilities: Probabilities) -> None:
    """The wrong answers that the model was surest of, at most fifteen, surest first."""
    best = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(best != labels)
    worst = wrong[np.argsort(-probabilities[wrong, best[wrong]], kind="stable")][:15]
    axes = _canvas(figure, columns=5, rows=3, cell=(1.35, 1.36))
    if not len(worst):
        axes.text(3.3, 2, "none", ha="center", va="center")
    for number, index in enumerate(worst):
        x, y = number % 5 * 1.35, number // 5 * 1.36
        _image(axes, images[index], x + 0.18, y)
        share = probabilities[index, best[index]]
        axes.text(x + 0.64, y + 1.02, f"✗ {CLASS_NAMES[best[index]]} {share:.1%}", color=RED, ha="center", va="center")
        axes.text(x + 0.64, y + 1.18, f"is {CLASS_NAMES[labels[index]]}", ha="center", va="center")


def hidden_units(figure: Figure, kernel: NDArray[np.float32]) -> None:
    """The weights of each unit of the first dense layer, a column of float32 [784,units], as a picture of 28x28."""
    units = kernel.shape[1]
    columns, rows = hidden_grid(units)
    pitch = 30
    mosaic = np.zeros((rows * pitch, columns * pitch, 4))  # the gaps stay transparent
    for number in range(units):
        weights = kernel[:, number].reshape(IMAGE_SHAPE)
        limit = float(np.quantile(np.abs(weights), 0.99)) or 1.0
        top, left = number // columns * pitch, number % columns * pitch
        mosaic[top : top + 28, left : left + 28] = mpl.colormaps["RdBu_r"](0.5 + weights / (2 * limit))
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_title("red: bright pixels there excite the unit; blue: they quiet it", fontsize=9)


def hidden_grid(units: int) -> tuple[int, int]:
    """The columns and rows of that picture's grid of units."""
    columns = 5 if units == len(CLASS_NAMES) else 16
    return columns, -(-units // columns)


def _canvas(figure: Figure, columns: int, rows: int, cell: tuple[float, float]) -> Axes:
    """One axes for a whole grid, many times faster than an axes for each cell; y grows downwards."""
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(-0.04, columns * cell[0]), ylim=(rows * cell[1], -0.04), aspect="equal")
    return axes


def _image(axes: Axes, image: Images, x: float, y: float) -> None:
    extent = (x, x + 0.92, y + 0.92, y)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    axes.set(xlim=limits[0], ylim=limits[1])


def _bars(axes: Axes, probabilities: Probabilities, origin: tuple[float, float], highlights: Mapping[int, str]) -> None:
    step = 0.092
    for class_id, share in enumerate(probabilities):
        y = origin[1] + (class_id + 0.5) * step
        colour = highlights.get(class_id, INK)
        axes.barh(y, max(float(share), 0.004) * 0.9, height=step * 0.75, left=origin[0], color=colour)
        axes.text(origin[0] - 0.04, y, CLASS_NAMES[class_id], ha="right", va="center", fontsize=7, color=colour)
