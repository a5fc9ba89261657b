"""Records for tests that read or write recordings."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.apis import messages, tensors
from serving.apis.messages import ModelSpec, PredictionLog, PredictRequest, PredictResponse
from serving.apis.recording_files import RecordingFile
from serving.apis.recordings import Origin, prediction_log
from serving.apis.tensors import make_tensor_proto

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can be made larger by this process, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def predict_log(number: int, size: int = 1) -> PredictionLog:
    """A record of half_plus_two's: x = [number] * size. Its id is `id-NUMBER`."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half_plus_two"))
    x = np.full(size, number, np.float32)
    request.inputs["x"].CopyFrom(tensors.make_tensor_proto(x))
    response = messages.PredictResponse(model_spec=messages.ModelSpec(name="half_plus_two"))
    response.model_spec.version.value = 2
    response.model_spec.signature_name = "serving_default"
    response.outputs["y"].CopyFrom(tensors.make_tensor_proto(x / 2 + 2))
    origin = Origin(f"id-{number}", TRACEPARENT)
    return prediction_log(request, response, origin, sampling_rate=0.25, timestamp_secs=1_700_000_000 + number)


def image_log(
    inputs: npt.ArrayLike,
    answers: Mapping[str, npt.ArrayLike] | None = None,
    *,
    name: str = "images",
    signature: str = "serving_default",
    version: int = 6,
) -> PredictionLog:
    """A record of one request to an image classifier. answers: the outputs; none for a request that got no answer."""
    spec = ModelSpec(name="recorded_model", signature_name=signature, version_label="stable")
    request = PredictRequest(model_spec=spec, inputs={name: make_tensor_proto(inputs)})
    answered_by = ModelSpec(name="recorded_model", signature_name=signature)
    answered_by.version.value = version
    outputs = {key: make_tensor_proto(value) for key, value in (answers or {}).items()}
    return prediction_log(request, PredictResponse(model_spec=answered_by, outputs=outputs))


def write_recording(path: Path, *logs: PredictionLog) -> Path:
    """A recording of these records."""
    with RecordingFile(path) as file:
        for log in logs:
            file.write(log)
    return path


def sure_of(*classes: int) -> npt.NDArray[np.float32]:
    """Probabilities float32 [N, 10] of these classes: 0.91, and 0.01 for each other."""
    return (0.01 + 0.9 * np.eye(10)[list(classes)]).astype(np.float32)
