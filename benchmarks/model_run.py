"""How long one run of a version takes in its runtime, without a server around it: microseconds, a median.

Arguments: a version directory, `tensorflow` or `litert`, and the number of images.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from serving.embedded.loading.runtimes import RuntimeOptions, runtime_load
from serving.embedded.models.storage import VersionDirectory

SECONDS = 1.0


def main(path: str, runtime: str, images: int) -> None:
    """Runs the signature by default for a second and prints the median."""
    servable = runtime_load(RuntimeOptions(forced=runtime))(VersionDirectory(Path(path)))
    signature = servable.signatures["serving_default"]
    inputs = {signature.inputs["images"].name: np.random.default_rng(0).integers(0, 256, (images, 28, 28), np.uint8)}
    outputs = [output.name for output in signature.outputs.values()]
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        servable.run(inputs, outputs)
        times.append(time.perf_counter() - start)
    print(statistics.median(times) * 1e6)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
