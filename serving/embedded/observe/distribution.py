"""What a classifier answers, counted: its classes, and how sure it is of them.

Arrays are only kept while requests are answered, and counted some hundred at a time.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from serving.apis.tensors import Array

# Of equal width, from 0 to 1: those of `test_distribution` in a manifest too.
BINS = 10
_MAX_CLASSES = 100
_MAX_ARRAYS = 256
_MAX_ROWS = 4096

# Told the model's name, its version, the predictions of each class, and those in each bin of confidence.
Count = Callable[[str, int, Sequence[int], Sequence[int]], None]


class Distribution:
    """Counts the rows of `probabilities`; safe to share between threads."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._waiting: list[tuple[str, int, Array]] = []
        self._rows = 0
        self._lock = threading.Lock()

    def add(self, model_name: str, version: int, probabilities: Array) -> None:
        """Takes the answers of one run: float [N, classes]; those of another shape, and of many classes, are none."""
        if probabilities.ndim != 2 or not 0 < probabilities.shape[1] <= _MAX_CLASSES:  # noqa: PLR2004 - rows of classes
            return
        self._waiting.append((model_name, version, probabilities))
        self._rows += len(probabilities)
        if len(self._waiting) >= _MAX_ARRAYS or self._rows >= _MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        """Counts what waits. A row with a value that is no finite number is of no class."""
        with self._lock:
            waiting, self._waiting, self._rows = self._waiting, [], 0
            together: defaultdict[tuple[str, int, int], list[Array]] = defaultdict(list)
            for model_name, version, probabilities in waiting:
                together[model_name, version, probabilities.shape[1]].append(probabilities)
            for (model_name, version, classes), arrays in together.items():
                rows = np.concatenate(arrays)
                rows = rows[np.isfinite(rows).all(axis=1)]
                bins = np.clip((rows.max(axis=1, initial=0) * BINS).astype(np.int64), 0, BINS - 1)
                self._count(
                    model_name,
                    version,
                    np.bincount(rows.argmax(axis=1), minlength=classes).tolist(),
                    np.bincount(bins, minlength=BINS).tolist(),
                )
