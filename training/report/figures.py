"""The pictures of a run, as PNG and SVG.

Backgrounds are transparent; text and lines have a middle gray and colours that can be told apart on white and on near
black alike (contrast of 3 to 1, https://www.w3.org/TR/WCAG21/#non-text-contrast); an SVG's text follows the scheme of
the page around it. Nothing is said by colour alone. Garments are light on black, as in the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
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

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]
P = ParamSpec("P")

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
_SVG_STYLE = (
    f'[style*="fill: {INK}"] {{ fill: #1f2328 !important }} '
    f'@media (prefers-color-scheme: dark) {{ [style*="fill: {INK}"] {{ fill: #e6edf3 !important }} }}</style>'
)


def save(
    path: Path,
    size: tuple[float, float],
    draw: Callable[Concatenate[Figure, P], None],
    *arguments: P.args,
    **options: P.kwargs,
) -> None:
    """Draws one figure of `size` in inches and writes `<path>.png` and `<path>.svg`. Raises OSError."""
    svg = path.with_suffix(".svg")
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size)
        draw(figure, *arguments, **options)
        figure.savefig(path.with_suffix(".png"), dpi=DPI)
        figure.savefig(svg, metadata={"Date": None})
    svg.write_text(svg.read_text(encoding="utf-8").replace("</style>", _SVG_STYLE, 1), encoding="utf-8")


def samples(figure: Figure, images: Images, labels: Labels) -> None:
    """The first 25 images, uint8 [N,28,28], with the class names of their labels, int64 [N]."""
    axes = _canvas(figure, columns=5, rows=5, cell=(1.0, 1.16))
    for number in range(min(25, len(images))):
        x, y = number % 5, number // 5 * 1.16
        _image(axes, images[number], x, y)
        axes.text(x + 0.46, y + 1.02, CLASS_NAMES[labels[number]], ha="center", va="center")


def curves(figure: Figure, history: History, rates: Mapping[float, float]) -> None:
    """Loss and accuracy by epoch, training against validation; and the learning rate, by the epochs that are done."""
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for key, label, colour, style in (
            (name, "training", BLUE, "--"),
            (f"val_{name}", "validation", ORANGE, "-"),
        ):
            epochs = range(1, len(history[key]) + 1)
            every = -(-len(epochs) // 12)
            axes.plot(epochs, history[key], style, color=colour, label=label, marker="o", ms=4, markevery=every)
        axes.legend(frameon=False)
    rate.plot(list(rates), list(rates.values()), color=GREEN, marker="o", ms=2)
    rate.set_ylim(bottom=0)
    rate.set(xlabel="epoch")
    rate.xaxis.get_major_locator().set_params(integer=True)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate")):
        axes.set_title(name)
        axes.grid(color=INK, alpha=0.2, linewidth=0.6)


def predictions(figure: Figure, images: Images, labels: Labels, probabilities: Probabilities) -> None:
    """Twelve images with the probability of each class; a wrong answer is crossed and says what is right."""
    columns, rows, cell = 2, 6, (2.9, 1.36)
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
    """How many images of each true class (row) got which class (column), [10,10]; no number is none.

    Blue is right. A mistake is the deeper orange, the larger its share of the row: from a fifth on as deep as it gets.
    """
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = np.empty((*counts.shape, 4))
    cells[...] = (*to_rgb(ORANGE), 0)
    cells[..., 3] = np.minimum(shares / 0.2, 1) * 0.5
    cells[np.diag_indices(len(counts))] = (*to_rgb(BLUE), 1)
    axes.imshow(cells)
    for row, column in np.argwhere(counts):
        colour = "white" if row == column else INK
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontweight="bold")
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_xticks(np.arange(-0.5, len(CLASS_NAMES)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(CLASS_NAMES)), minor=True)
    axes.grid(which="minor", color=INK, alpha=0.2, linewidth=0.6)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def mistakes(figure: Figure, images: Images, labels: Labels, probabilities: Probabilities) -> None:
    """The wrong answers that the model was surest of, at most twelve, surest first."""
    best = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(best != labels)
    worst = wrong[np.argsort(-probabilities[wrong, best[wrong]], kind="stable")][:12]
    axes = _canvas(figure, columns=4, rows=3, cell=(1.35, 1.36))
    if not len(worst):
        axes.text(2.7, 2, "none", ha="center", va="center")
    for number, index in enumerate(worst):
        x, y = number % 4 * 1.35, number // 4 * 1.36
        _image(axes, images[index], x + 0.18, y)
        share = probabilities[index, best[index]]
        axes.text(x + 0.64, y + 1.02, f"✗ {CLASS_NAMES[best[index]]} {share:.1%}", color=RED, ha="center", va="center")
        axes.text(x + 0.64, y + 1.18, f"is {CLASS_NAMES[labels[index]]}", ha="center", va="center")


def hidden_units(figure: Figure, kernel: NDArray[np.float32]) -> None:
    """The weights of each unit of the first dense layer, a column of float32 [784,units], as a picture of 28x28.

    The greater a weight, the less it lets the page shine through: red where it is positive, blue where negative.
    """
    units = kernel.shape[1]
    columns = 5 if units == len(CLASS_NAMES) else 16
    rows = -(-units // columns)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figwidth() * rows / columns)
    pitch = 30
    mosaic = np.zeros((rows * pitch, columns * pitch, 4))  # the gaps stay transparent
    for number in range(units):
        weights = kernel[:, number].reshape(IMAGE_SHAPE)
        limit = float(np.quantile(np.abs(weights), 0.99)) or 1.0
        top, left = number // columns * pitch, number % columns * pitch
        picture = mosaic[top : top + 28, left : left + 28]
        picture[..., :3] = np.where(weights[..., np.newaxis] > 0, to_rgb(RED), to_rgb(BLUE))
        picture[..., 3] = np.minimum(np.abs(weights) / limit, 1)
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(mosaic, interpolation="nearest")


def _canvas(figure: Figure, columns: int, rows: int, cell: tuple[float, float]) -> Axes:
    """One axes for a whole grid, many times faster than an axes for each cell; y grows downwards."""
    axes = figure.subplots()
    axes.axis("off")
    axes.set(xlim=(-0.04, columns * cell[0]), ylim=(rows * cell[1], -0.04), aspect="equal", autoscale_on=False)
    return axes


def _image(axes: Axes, image: Images, x: float, y: float) -> None:
    extent = (x, x + 0.92, y + 0.92, y)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")


def _bars(axes: Axes, probabilities: Probabilities, origin: tuple[float, float], highlights: Mapping[int, str]) -> None:
    step = 0.092
    for class_id, share in enumerate(probabilities):
        y, width = origin[1] + (class_id + 0.5) * step, max(float(share), 0.004) * 0.75
        colour = highlights.get(class_id, INK)
        axes.barh(y, width, height=step * 0.75, left=origin[0], color=colour, alpha=0.6 if colour == INK else 1)
        axes.text(origin[0] - 0.04, y, CLASS_NAMES[class_id], ha="right", va="center", fontsize=7, color=colour)
        if share >= 0.01:  # noqa: PLR2004 - less would be printed as 0 or 1 %, and there are ten of them
            axes.text(origin[0] + width + 0.04, y, f"{share:.0%}", va="center", fontsize=7, color=colour)
