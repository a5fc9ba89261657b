"""The servers that can serve a model base path: each is one command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# What all backends are configured with.
CONFIG = Path(__file__).parent / "config"


@dataclass(frozen=True)
class ServeOptions:
    """What is served, and where. Ports: 0 picks a free one."""

    model_base_path: Path = Path("models/fashion_mnist")
    model_name: str = "fashion_mnist"
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    verbose: bool = False


def embedded(options: ServeOptions) -> list[str]:
    """`python -m serving.embedded`: any machine that has TensorFlow."""
    return [
        sys.executable,
        "-m",
        "serving.embedded",
        f"--host={options.host}",
        f"--port={options.port}",
        f"--rest_api_port={options.rest_port}",
        f"--model_name={options.model_name}",
        f"--model_base_path={options.model_base_path.absolute()}",
        "--enable_batching",
        f"--batching_parameters_file={CONFIG / 'batching.config'}",
        *(["--verbose"] if options.verbose else []),
    ]


BACKENDS: Mapping[str, Callable[[ServeOptions], list[str]]] = {"embedded": embedded}
