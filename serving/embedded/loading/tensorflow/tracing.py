"""Traces of what TensorFlow does in this process, taken with `tf.profiler`."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from serving.embedded.loading.tensorflow.saved_model import serving_error
from serving.embedded.observe.tracer import Levels, Trace


def take(levels: Levels, seconds: float, end: threading.Event) -> Trace:
    """What happens until `end` is set, for so many seconds at the longest.

    Raises ServingError with TensorFlow's code and text: ALREADY_EXISTS while another trace is taken.
    """
    options = tf.profiler.experimental.ProfilerOptions(levels.host, levels.python, levels.device)
    with tempfile.TemporaryDirectory(prefix="fashion-serving-") as directory:
        try:
            with tf.profiler.experimental.Profile(directory, options):
                end.wait(seconds)
        except tf.errors.OpError as error:
            raise serving_error(error) from error
        xspace = next(Path(directory).rglob("*.xplane.pb")).read_bytes()
    planes = xplane_pb2.XSpace.FromString(xspace).planes
    return Trace(xspace, empty=not any(line.events for plane in planes for line in plane.lines))


def save(path: str, xspace: bytes) -> None:
    """Writes a trace to any path that TensorFlow knows. Raises ServingError with TensorFlow's code and text."""
    try:
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(xspace)
    except tf.errors.OpError as error:
        raise serving_error(error) from error
