"""Traces of what TensorFlow does in this process, taken with `tf.profiler`."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from serving.embedded.admission import resources
from serving.embedded.loading.tensorflow.saved_model import serving_error
from serving.embedded.observe.tracer import Levels, Trace

# A trace ends when the process has grown by so much: what it has seen is kept in memory.
_MAX_BYTES = 2**28
_LOOK_SECONDS = 0.2


def take(levels: Levels, seconds: float, end: threading.Event) -> Trace:
    """What happens until `end` is set, for so many seconds at the longest, or until that takes much memory.

    Raises ServingError with TensorFlow's code and text: ALREADY_EXISTS while another trace is taken.
    """
    options = tf.profiler.experimental.ProfilerOptions(levels.host, levels.python, levels.device)
    with tempfile.TemporaryDirectory(prefix="fashion-serving-") as directory:
        try:
            with tf.profiler.experimental.Profile(directory, options):
                _wait(end, seconds)
        except tf.errors.OpError as error:
            raise serving_error(error) from error
        xspace = next(Path(directory).rglob("*.xplane.pb")).read_bytes()
    planes = xplane_pb2.XSpace.FromString(xspace).planes
    return Trace(xspace, empty=not any(line.events for plane in planes for line in plane.lines))


def _wait(end: threading.Event, seconds: float) -> None:
    """Waits for the event, as long as that does not take much more memory than now."""
    last, most = time.monotonic() + seconds, resources.resident_bytes() + _MAX_BYTES
    while not end.wait(min(_LOOK_SECONDS, max(0, last - time.monotonic()))):
        if time.monotonic() >= last or resources.resident_bytes() > most:
            return
