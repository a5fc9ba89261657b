"""What the profiler service asks a runtime for, and gets: traces of what it does in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class Levels(NamedTuple):
    """How much is traced of operations, of Python and of devices; the defaults are TensorFlow's."""

    host: int = 2
    python: int = 0
    device: int = 1


class Trace(NamedTuple):
    """A serialized XSpace, and whether it has no event.

    https://github.com/openxla/xla/blob/main/third_party/tsl/tsl/profiler/protobuf/xplane.proto
    """

    xspace: bytes
    empty: bool


class Tracer(NamedTuple):
    """What a runtime does for the service. Raises ServingError.

    take: traces until the event is set, for so many seconds at the longest, or until that takes much memory.
    """

    take: Callable[[Levels, float, threading.Event], Trace]
