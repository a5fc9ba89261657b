"""What the recipes cost and reach on the real data; `make bench-training` runs it.

`textbook` and `fast` alternate in one process on the same arrays; then `fast` gets as many epochs as fit into the
textbook's own time. `--accurate` adds three seeds of that recipe, minutes each. Everything goes to
results/training.json, from which tools/readme.py fills README.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fashion_common.native_stderr import native_stderr_silenced

RESULTS = Path(__file__).with_name("results") / "training.json"
ROUNDS = 3
ACCURATE_SEEDS = (0, 1, 2)


def measure(recipe: str, seed: int, **overrides: Any) -> dict[str, float]:
    """One run into a directory that is thrown away: fit_seconds and accuracies."""
    from training.fit.stages import Watch
    from training.recipes import resolve
    from training.train import metrics, train

    with tempfile.TemporaryDirectory() as directory:
        config = resolve(recipe, seed=seed, **overrides)
        result = train(config, Path(directory) / "run", watch=Watch(pictures=False))
    measured = {name: float(str(value)) for name, value in metrics(result).items()}
    note(f"{recipe}, seed {seed}: {measured['fit_seconds']:.2f} s, test accuracy {measured['test_accuracy']:.4f}")
    return measured


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Medians of the times, means of the accuracies."""
    return {
        "fit_seconds": round(statistics.median(run["fit_seconds"] for run in runs), 2),
        "validation_accuracy": round(statistics.mean(run["validation_accuracy"] for run in runs), 4),
        "test_accuracy": round(statistics.mean(run["test_accuracy"] for run in runs), 4),
        "epochs": int(runs[0]["epochs"]),
        "runs": len(runs),
    }


def compare() -> dict[str, Any]:
    """`textbook` against `fast`, and `fast` with the textbook's time."""
    from training.recipes import RECIPES

    measure("fast", 0, epochs=1)  # the first use of TensorFlow in a process costs both alike
    pairs = [(measure("textbook", seed), measure("fast", seed)) for seed in range(ROUNDS)]
    textbook, fast = summary([pair[0] for pair in pairs]), summary([pair[1] for pair in pairs])
    epochs = int(textbook["fit_seconds"] / fast["fit_seconds"] * RECIPES["fast"].epochs)
    return {
        "textbook": textbook,
        "fast": fast,
        "ratio": round(textbook["fit_seconds"] / fast["fit_seconds"], 1),
        "fast_in_the_textbooks_time": summary([measure("fast", 0, epochs=epochs)]),
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    import keras
    import tensorflow as tf

    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
    }


def note(text: str) -> None:
    """Says how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measures, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accurate", action="store_true", help="measure the recipe accurate too, with three seeds")
    parser.add_argument("--only-accurate", action="store_true", help="measure that one alone")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with native_stderr_silenced():
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it takes the loops of many runs for one traced again
        if not arguments.only_accurate:
            results.update(compare())
        if arguments.accurate or arguments.only_accurate:
            results["accurate"] = summary([measure("accurate", seed) for seed in ACCURATE_SEEDS])
        results["machine"] = machine()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
