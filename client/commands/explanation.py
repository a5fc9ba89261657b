"""What the model saw of a picture, how far that is from what it was trained on, and what it would say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from client.connection import Connection
from client.pictures.batch import Batch
from client.pictures.images import trimmed_pixels
from client.types import IMAGE_BYTES, Prediction
from fashion_common.served_model import IMAGE_SHAPE

# Of the 60,000 training images: the mean pixel, and the share of pixels above 0; both measured on the data set.
TRAINING_MEAN = 72.94
TRAINING_INK = 0.498
# Nine tenths of the training images lie within these (5th to 95th percentile).
TRAINING_MEAN_RANGE = (25.8, 128.2)
TRAINING_INK_RANGE = (0.272, 0.714)
_SURE = 0.5
LIGHT = 127


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
        """What looks wrong and what may help; empty when the picture is like the training set's."""
        result = []
        low, high = TRAINING_MEAN_RANGE
        if not low <= self.mean <= high:
            result.append(
                f"the mean pixel {self.mean:.0f} is unlike the training set's ({low:.0f} to {high:.0f}): "
                + (
                    "is the background light? --preprocess photo makes it black"
                    if self.mean > high
                    else "is it too dark?"
                )
            )
        low, high = TRAINING_INK_RANGE
        if not low <= self.ink <= high:
            result.append(
                f"{self.ink:.0%} of the pixels are not black, {low:.0%} to {high:.0%} in the training set: "
                + ("the background should be plain" if self.ink > high else "the garment should fill the frame")
            )
        doubted = [(self.trimmed, "trimmed", "let the garment fill the frame")]
        if self._light_border():
            doubted.insert(0, (self.inverted, "inverted", "the background should be black for the model"))
        for variant, name, fix in doubted:
            if variant.class_id != self.as_it_is.class_id and variant.probability > self.as_it_is.probability:
                result.append(
                    f"{name}, it would be {variant.class_name} ({variant.probability:.0%}), not "
                    f"{self.as_it_is.class_name} ({self.as_it_is.probability:.0%}): {fix}"
                )
        if not result and self.as_it_is.probability < _SURE:
            result.append("the model is unsure: is the garment one of the ten classes, seen from the front?")
        return result

    def _light_border(self) -> bool:
        """Whether the frame's outermost pixels are mostly light, which they never are in the training set."""
        _, columns = IMAGE_SHAPE
        border = (
            self.pixels[:columns]
            + self.pixels[-columns:]
            + self.pixels[::columns]
            + self.pixels[columns - 1 :: columns]
        )
        return sorted(border)[len(border) // 2] > LIGHT


def explain(connection: Connection, pixels: bytes, signature_name: str | None = None) -> Explanation:
    """Asks for the image and its variants in one request. Raises ServerError."""
    inverted = bytes(255 - pixel for pixel in pixels)
    batch = Batch("DT_UINT8", pixels + inverted + trimmed_pixels(pixels))
    return Explanation(pixels, *connection.predict_batch(batch, signature_name=signature_name))
