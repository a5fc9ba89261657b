"""Pictures of answers, drawn with matplotlib (the extra [figures]): PNG, SVG or PDF by the file's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from client.commands.output import output_file, printable
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from client.measurement import LoadResult
    from client.pipeline import Answer

_COLUMNS = 3


def save_predictions(answers: Sequence[Answer], path: Path) -> None:
    """A grid of images, uint8 [28, 28], each beside the bars of its ten probabilities.

    Raises ClientUsageError for a file that cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(answers))
    rows = -(-len(answers) // columns)
    figure = Figure(figsize=(4.4 * columns, 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.3] * columns)
    for axis in grid.flat:
        axis.set_axis_off()
    for index, answer in enumerate(answers):
        row, column = divmod(index, columns)
        _draw(answer, grid[row, 2 * column], grid[row, 2 * column + 1])
    _save(figure, path)


def save_latencies(result: LoadResult, path: Path, title: str) -> None:
    """The distribution of the latencies in ms, with two percentiles. Raises ClientUsageError as save_predictions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    limit = result.percentile(99.9)
    axis.hist([1000 * latency for latency in result.latencies if latency <= limit], bins=80, color="#0969da")
    for share, style in ((50, "-"), (99, "--")):
        milliseconds = 1000 * result.percentile(share)
        axis.axvline(milliseconds, color="#bc4c00", linestyle=style, label=f"p{share} {milliseconds:.2f} ms")
    axis.set(title=title, xlabel="latency of a request in ms (the slowest 0.1 % left out)", ylabel="requests")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    _save(figure, path)


def _draw(answer: Answer, picture: Axes, bars: Axes) -> None:
    import numpy as np

    assert answer.prediction is not None
    picture.imshow(np.frombuffer(answer.pixels, np.uint8).reshape(IMAGE_SHAPE), cmap="gray", vmin=0, vmax=255)
    name, families = _drawable(printable(Path(answer.name).name))
    picture.set_title(name, fontsize=8, fontfamily=families, parse_math=False)
    bars.set_axis_on()
    colours = ["#afb8c1"] * len(CLASS_NAMES)
    colours[answer.prediction.class_id] = "#0969da"
    bars.barh(range(len(CLASS_NAMES)), answer.prediction.probabilities, color=colours)
    bars.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES, fontsize=6)
    bars.set_xlim(0, 1)
    bars.set_xticks([])
    bars.invert_yaxis()
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    bars.set_title(f"{answer.prediction.class_name} {answer.prediction.probability:.0%}", fontsize=8)


def _drawable(text: str) -> tuple[str, list[str]]:
    """The text and its font families: an installed font for what matplotlib's own lacks, such as CJK, else escapes."""
    from matplotlib import font_manager

    own = font_manager.FontProperties().get_family()
    missing = set(map(ord, text)) - set(
        font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    )
    if not missing:
        return text, own
    for entry in font_manager.fontManager.ttflist:
        if missing <= set(font_manager.get_font(entry.fname).get_charmap()):
            return text, [*own, entry.name]
    return text.encode("ascii", "backslashreplace").decode(), own


def _save(figure: Figure, path: Path) -> None:
    with output_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=120, facecolor="white")
