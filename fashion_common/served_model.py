"""The served model as every part knows it: its name, the images it takes and the classes it tells apart."""

from __future__ import annotations

MODEL_NAME = "fashion_mnist"

# Height and width in pixels.
IMAGE_SHAPE = (28, 28)

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
