"""Fashion-MNIST through tensorflow_datasets."""

from __future__ import annotations

# In label order (Xiao et al. 2017, https://arxiv.org/abs/1708.07747, table 2).
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
