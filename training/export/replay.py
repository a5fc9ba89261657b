"""A model held to recordings: the recorded requests run on it, and its answers are compared with the recorded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from fashion_common.comparison import Answer, Comparison
from fashion_common.evidence import RECORDED, Evidence, Side
from fashion_common.served_model import CLASS_NAMES
from serving.apis.messages import PredictionLog, PredictLog
from serving.apis.recordings import has_inputs, read_recording
from serving.apis.self_test import Array
from serving.apis.tensors import TensorError, make_ndarray
from training.errors import TrainingUsageError
from training.export.trained import TrainedModel

# The output of a signature that has them; `classify` has the second.
_PROBABILITIES = ("probabilities", "scores")


def replay(candidate: TrainedModel, model_name: str, recordings: Sequence[Path]) -> Evidence:
    """The recorded Predict requests, row by row: the recorded answers are the baseline; other records are passed over.

    It runs on the model as it will be served, before anything is written. A request that it cannot run is counted as
    refused. Raises RecordingError, and TrainingUsageError for a record without inputs or without probabilities.
    """
    functions = candidate.form.functions()
    comparison, digest = Comparison(), hashlib.sha256()
    versions: set[int] = set()
    refused, refusal = 0, ""
    for request in _requests(recordings):
        for key in sorted(request.inputs):
            array = request.inputs[key]
            digest.update(b"".join(array.ravel().tolist()) if array.dtype == object else array.tobytes())
        versions.add(request.version)
        try:
            answers = _run(functions, request)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            refused += len(request.answers)
            refusal = refusal or f"{request.name}: {str(error).splitlines()[0]}"
            continue
        for row, (recorded, answer) in enumerate(zip(request.answers, answers, strict=True)):
            name = request.name if len(answers) == 1 else f"{request.name}[{row}]"
            comparison.add(name, recorded, answer)
    [version] = versions if len(versions) == 1 else [0]
    return comparison.evidence(
        model_name,
        Side(RECORDED, version=version or None),
        Side(candidate.source, refused=refused, refusal=refusal),
        inputs=[str(path) for path in recordings],
        sha256=digest.hexdigest(),
    )


class _Request(NamedTuple):
    """A recorded request: its name, signature and inputs, the answer to each row, the version that gave it or 0."""

    name: str
    signature: str
    inputs: Mapping[str, Array]
    answers: Sequence[Answer]
    version: int


def _requests(recordings: Sequence[Path]) -> Iterator[_Request]:
    for path in recordings:
        for number, log in enumerate(read_recording(path), start=1):
            if log.HasField("predict_log"):
                yield _request(f"{path}[{number}]", log)


def _request(name: str, log: PredictionLog) -> _Request:
    if not has_inputs(log):
        raise TrainingUsageError(f"{name}: a request without its inputs, as of a server that records answers only")
    exchange = log.predict_log
    try:
        inputs = {key: make_ndarray(proto) for key, proto in exchange.request.inputs.items()}
        answers = _recorded(name, exchange)
    except TensorError as error:
        raise TrainingUsageError(f"{name}: {error}") from error
    spec = exchange.request.model_spec
    version = exchange.response.model_spec.version.value
    return _Request(name, spec.signature_name or "serving_default", inputs, answers, version)


def _recorded(name: str, log: PredictLog) -> list[Answer]:
    outputs = log.response.outputs
    rows = next((make_ndarray(outputs[key]) for key in _PROBABILITIES if key in outputs), None)
    if rows is None or rows.shape[1:] != (len(CLASS_NAMES),):
        raise TrainingUsageError(
            f"{name}: an answer without probabilities [N, {len(CLASS_NAMES)}]: give recordings of answered requests"
        )
    return _answers(rows, make_ndarray(outputs["class_ids"]) if "class_ids" in outputs else None)


def _run(functions: Mapping[str, Any], request: _Request) -> list[Answer]:
    """Raises ValueError, TypeError or OpError for a request that the model cannot run."""
    if request.signature not in functions:
        raise ValueError(f"there is no signature {request.signature!r}")
    outputs = functions[request.signature](**{key: tf.constant(value) for key, value in request.inputs.items()})
    return _answers(next(outputs[key].numpy() for key in _PROBABILITIES if key in outputs))


def _answers(rows: Array, class_ids: Array | None = None) -> list[Answer]:
    ids = rows.argmax(axis=1) if class_ids is None else class_ids
    return [Answer(int(class_id), row) for class_id, row in zip(ids.tolist(), rows.tolist(), strict=True)]
