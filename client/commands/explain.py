"""`fashion explain`: a picture as the model saw it, beside the training set, with the answers for its variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from client.commands.options import FILE, as_json_option, preprocess_option, signature_option, with_connection
from client.commands.output import output_file
from client.errors import ClientUsageError
from client.pictures.batch import Batch
from client.types import Prediction
from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE

if TYPE_CHECKING:
    from PIL import Image

    from client.connection import Connection
    from client.types import Preprocess

_SURE = 0.5
# The drawing's edge of a picture, in pixels; a row's height; the colours of an answer, of the others, and of text.
_EDGE, _MARGIN = 280, 10
_ANSWER, _OTHER, _TEXT = "#0969da", "#afb8c1", "#1f2328"


@click.command(epilog="Example: fashion explain my-shirt.jpg --output what-the-model-saw.png")
@click.argument("image", type=FILE)
@preprocess_option
@signature_option
@click.option(
    "--output",
    type=FILE,
    help="Draw the picture, what the model saw of it, and the bars of its answer (.png, .jpg, ...).",
)
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
    from client.pictures import images

    picture = images.open_picture(image, str(image))
    pixels = images.picture_pixels(picture, str(image), preprocess)
    inverted = bytes(255 - pixel for pixel in pixels)
    batch = Batch("DT_UINT8", pixels + inverted + images.trimmed_pixels(pixels))
    names = ("as it is", "inverted", "trimmed")
    variants = dict(zip(names, connection.predict(batch, signature_name=signature_name), strict=True))
    answer = variants["as it is"]
    if output:
        _save(_drawing(picture, pixels, answer), output)
    mean, ink = images.statistics(pixels)
    hints = _hints(variants, has_light_border=images.has_light_border(pixels))
    if as_json:
        answers = {name: prediction._asdict() for name, prediction in variants.items()}
        click.echo(json.dumps({"mean": mean, "ink": ink, "answers": answers, "hints": hints}, indent=2))
        return
    click.echo(drawing(pixels, answer))
    click.echo(f"\nmean pixel  {mean:6.1f}   in the training set {images.TRAINING_MEAN:.1f}")
    click.echo(f"not black   {ink:6.1%}   in the training set {images.TRAINING_INK:.1%}\n")
    for name, prediction in variants.items():
        click.echo(f"{name:<10}  {prediction.class_name}  {prediction.probability:.4f}")
    for hint in hints:
        click.echo(f"hint: {hint}")


def _hints(variants: dict[str, Prediction], *, has_light_border: bool) -> list[str]:
    """What the answers for the variants say, with what may help; empty when the model is sure of the picture itself."""
    answer = variants["as it is"]
    fixes = {"trimmed": "let the garment fill the frame"}
    if has_light_border:
        fixes["inverted"] = "the background should be black for the model"
    hints = []
    for name, fix in fixes.items():
        variant = variants[name]
        if variant.class_id != answer.class_id and variant.probability > answer.probability:
            hints.append(
                f"{name}, it would be {variant.class_name} ({variant.probability:.0%}), not "
                f"{answer.class_name} ({answer.probability:.0%}): {fix}"
            )
    if not hints and answer.probability < _SURE:
        hints.append("the model is unsure: is the garment one of the ten classes, seen from the front?")
    return hints


def _drawing(picture: Image.Image, pixels: bytes, answer: Prediction) -> Image.Image:
    """The picture, what the model saw of it, ten times as large, and the bars of its answer, side by side."""
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    canvas = Image.new("RGB", (3 * _EDGE + 4 * _MARGIN, _EDGE + 2 * _MARGIN), "white")
    canvas.paste(ImageOps.pad(picture.convert("RGB"), (_EDGE, _EDGE), color="white"), (_MARGIN, _MARGIN))
    saw = Image.frombytes("L", IMAGE_SHAPE, pixels).resize((_EDGE, _EDGE), Image.Resampling.NEAREST)
    canvas.paste(saw, (_EDGE + 2 * _MARGIN, _MARGIN))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    left, row = 2 * _EDGE + 3 * _MARGIN, _EDGE // len(CLASS_NAMES)
    for class_id, probability in enumerate(answer.probabilities):
        name = answer.class_name if class_id == answer.class_id else CLASS_NAMES[class_id]
        top = _MARGIN + class_id * row
        draw.text((left, top + 4), name, _TEXT, font)
        bar = (left + 90, top + 4, left + 90 + round(130 * probability), top + row - 4)
        draw.rectangle(bar, _ANSWER if class_id == answer.class_id else _OTHER)
        draw.text((left + 230, top + 4), f"{probability:.2f}", _TEXT, font)
    return canvas


def _save(picture: Image.Image, path: Path) -> None:
    from PIL import Image

    # The call also loads the formats.
    forms = Image.registered_extensions() | {"": "PNG"}
    form = forms.get(path.suffix.lower(), "")
    if form not in Image.SAVE:
        raise ClientUsageError(f"{path}: no picture can be written as {path.suffix}: name it .png")
    with output_file(path) as file:
        picture.save(file, form)
