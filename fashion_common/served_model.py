"""The served model as every part knows it: its name, its signatures, its images and its classes."""

from __future__ import annotations

from typing import NamedTuple

MODEL_NAME = "fashion_mnist"

# Height and width in pixels.
IMAGE_SHAPE = (28, 28)
# The most that an image file may decode to: a few kilobytes of PNG can claim gigabytes of pixels.
MAX_PIXELS = 2**26

# In label order: CLASS_NAMES[class_id] (Xiao et al. 2017, https://arxiv.org/abs/1708.07747, table 2).
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class SignatureInput(NamedTuple):
    """The one input of a signature: its name, its DataType's name, and its shape with -1 for the number of rows."""

    name: str
    dtype: str
    shape: tuple[int, ...]


SIGNATURES = {
    "serving_default": SignatureInput("images", "DT_UINT8", (-1, *IMAGE_SHAPE)),
    "encoded_images": SignatureInput("image_bytes", "DT_STRING", (-1,)),
    "float_images": SignatureInput("images", "DT_FLOAT", (-1, *IMAGE_SHAPE)),
    "classify": SignatureInput("inputs", "DT_STRING", (-1,)),
}
