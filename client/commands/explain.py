"""`fashion explain`: a picture as the model saw it, beside the training set, with the answers for its variants."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import FILE, as_json_option, preprocess_option, signature_option, with_connection
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES, Prediction
from fashion_common.served_model import IMAGE_SHAPE

if TYPE_CHECKING:
    from client.connection import Connection
    from client.types import Preprocess

# Of the 60,000 training images: the mean pixel, and the share of pixels above 0; both measured on the data set.
TRAINING_MEAN = 72.94
TRAINING_INK = 0.498
# Nine tenths of the training images lie within these (5th to 95th percentile).
TRAINING_MEAN_RANGE = (25.8, 128.2)
TRAINING_INK_RANGE = (0.272, 0.714)
_SURE = 0.5
_LIGHT = 127


@dataclass(frozen=True)
class Explanation:
    """`pixels` is the image as the model saw it (uint8 [28, 28]), with the answers for it and two variants."""

    pixels: bytes
    as_it_is: Prediction
    inverted: Prediction
    trimmed: Prediction

    @property
    def mean(self) -> float:
        """The mean pixel, 0 to 255."""
        return sum(self.pixels) / IMAGE_BYTES

    @property
    def ink(self) -> float:
        """The share of pixels above 0."""
        return sum(pixel > 0 for pixel in self.pixels) / IMAGE_BYTES

    def hints(self) -> list[str]:
        """The differences from the training set, with what may help; empty when the picture is like it."""
        hints = []
        low, high = TRAINING_MEAN_RANGE
        if not low <= self.mean <= high:
            hints.append(
                f"the mean pixel {self.mean:.0f} is unlike the training set's ({low:.0f} to {high:.0f}): "
                + (
                    "is the background light? --preprocess photo makes it black"
                    if self.mean > high
                    else "is it too dark?"
                )
            )
        low, high = TRAINING_INK_RANGE
        if not low <= self.ink <= high:
            hints.append(
                f"{self.ink:.0%} of the pixels are not black, {low:.0%} to {high:.0%} in the training set: "
                + ("the background should be plain" if self.ink > high else "the garment should fill the frame")
            )
        variants = [(self.trimmed, "trimmed", "let the garment fill the frame")]
        if self._has_light_border():
            variants.insert(0, (self.inverted, "inverted", "the background should be black for the model"))
        for variant, name, fix in variants:
            if variant.class_id != self.as_it_is.class_id and variant.probability > self.as_it_is.probability:
                hints.append(
                    f"{name}, it would be {variant.class_name} ({variant.probability:.0%}), not "
                    f"{self.as_it_is.class_name} ({self.as_it_is.probability:.0%}): {fix}"
                )
        if not hints and self.as_it_is.probability < _SURE:
            hints.append("the model is unsure: is the garment one of the ten classes, seen from the front?")
        return hints

    def _has_light_border(self) -> bool:
        """Whether the frame's outermost pixels are mostly light: so are those of 2 of the 60,000 training images."""
        _, columns = IMAGE_SHAPE
        top, bottom = self.pixels[:columns], self.pixels[-columns:]
        border = top + bottom + self.pixels[::columns] + self.pixels[columns - 1 :: columns]
        return sorted(border)[len(border) // 2] > _LIGHT


@click.command(epilog="Example: fashion explain my-shirt.jpg --output what-the-model-saw.png")
@click.argument("image", type=FILE)
@preprocess_option("As in fashion predict.")
@signature_option
@click.option("--output", type=FILE, help="Save what the model saw as PNG, ten times as large.")
@as_json_option
@with_connection
def explain(
    connection: Connection,
    image: Path,
    preprocess: Preprocess,
    signature_name: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show what the model saw of IMAGE, and why its answer may be wrong."""
    from client.commands.terminal import drawing
    from client.pictures.images import read_image, save_enlarged, trimmed_pixels

    pixels = read_image(image, str(image), preprocess)
    inverted = bytes(255 - pixel for pixel in pixels)
    batch = Batch("DT_UINT8", pixels + inverted + trimmed_pixels(pixels))
    explanation = Explanation(pixels, *connection.predict(batch, signature_name=signature_name))
    if output:
        save_enlarged(pixels, output)
    hints = explanation.hints()
    variants = {"as it is": explanation.as_it_is, "inverted": explanation.inverted, "trimmed": explanation.trimmed}
    if as_json:
        answers = {name: prediction._asdict() for name, prediction in variants.items()}
        report = {"mean": explanation.mean, "ink": explanation.ink, "answers": answers, "hints": hints}
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(drawing(pixels, explanation.as_it_is))
    click.echo(f"\nmean pixel  {explanation.mean:6.1f}   in the training set {TRAINING_MEAN:.1f}")
    click.echo(f"not black   {explanation.ink:6.1%}   in the training set {TRAINING_INK:.1%}\n")
    for name, prediction in variants.items():
        click.echo(f"{name:<10}  {prediction.class_name}  {prediction.probability:.4f}")
    for hint in hints:
        click.echo(f"hint: {hint}")
