"""When waiting requests are merged, and into what: TF Serving's BatchingParameters."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from serving.apis.server_configs import BatchingParameters
from serving.embedded.inference.servable import Servable
from serving.embedded.models.versions import Version
from serving.errors import ServerConfigError


class BatchingOptions(NamedTuple):
    """When requests are merged, and into what. Defaults are those of TF Serving's schedulers."""

    max_batch_size: int = 1000
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False


OptionsOf = Callable[[Version[Servable]], BatchingOptions | None]


def batching_options(parameters: BatchingParameters) -> BatchingOptions:
    """The options that a BatchingParameters stands for. Raises ServerConfigError for ones that cannot be."""
    given: dict[str, Any] = {
        name: getattr(parameters, name).value
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "enable_large_batch_splitting")
        if parameters.HasField(name)
    }
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
        if given.get(name, 1) < 1:
            raise ServerConfigError(f"{name} must be positive; was {given[name]}")
    options = BatchingOptions(
        **given,
        batch_timeout_seconds=max(0, parameters.batch_timeout_micros.value) / 1e6,
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
    )
    sizes = options.allowed_batch_sizes
    if list(sizes) != sorted(set(sizes)):
        raise ServerConfigError(f"allowed_batch_sizes entries must be monotonically increasing: got {list(sizes)}")
    if sizes and sizes[-1] != options.max_batch_size:
        raise ServerConfigError(
            "Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {sizes[-1]}; expected {options.max_batch_size}"
        )
    return options
