"""What an answer is taken to need before it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serving.embedded.grpc.services.models import _answer_bytes


@pytest.mark.parametrize(
    ("array", "typed", "content"),
    [
        (np.zeros(10, np.int8), 80, 10),
        (np.zeros((2, 5), np.bool_), 80, 10),
        (np.zeros(10, np.uint16), 80, 20),
        (np.zeros(10, np.int64), 80, 80),
        (np.zeros(10, np.float32), 40, 40),
        (np.zeros(0, np.int8), 0, 0),
    ],
)
def test_the_bytes_of_an_answer(array: npt.NDArray[Any], typed: int, content: int) -> None:
    """Whole numbers in typed fields take eight bytes each while they grow; all else takes its own bytes."""
    assert _answer_bytes([array, array], tensor_content=False) == 2 * typed
    assert _answer_bytes([array, array], tensor_content=True) == 2 * content
