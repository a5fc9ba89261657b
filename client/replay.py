"""Recordings as requests: what can be sent again, when it was asked, and whether it is answered as it was."""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import Message

from client.errors import ClientUsageError, ServerError
from client.load import Request
from client.types import ModelSpec
from serving.apis.messages import (
    MultiInferenceRequest,
    MultiInferenceResponse,
    PredictionLog,
    PredictRequest,
    PredictResponse,
    RegressionResult,
)
from serving.apis.recordings import exchange, has_inputs, read_recording
from serving.apis.self_test import TOLERANCE
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.apis.tensors import Array, TensorError, make_ndarray

_SENDABLE = ("predict_log", "classify_log", "regress_log", "multi_inference_log")


def records(paths: Sequence[Path], passed_over: Counter[str]) -> Iterator[PredictionLog]:
    """The records that can be sent, merged by time; each file is in the order of time itself. Others are counted.

    Raises RecordingError for a file that cannot be read, is damaged, or is no recording.
    """
    for log in heapq.merge(*map(read_recording, paths), key=lambda log: log.log_metadata.timestamp_secs):
        kind = log.WhichOneof("log_type")
        if kind not in _SENDABLE:
            passed_over[f"of the kind {kind}"] += 1
        elif not has_inputs(log):
            passed_over["without inputs"] += 1
        else:
            yield log


def nothing_to_send(paths: Sequence[Path], passed_over: Mapping[str, int]) -> ClientUsageError:
    """The error for recordings without a record that can be sent."""
    names = ", ".join(map(str, paths))
    if not passed_over:
        return ClientUsageError(f"{names}: no records in it: give a file that was recorded, or a warmup file")
    reasons = ", ".join(f"{count} {reason}" for reason, count in passed_over.items())
    return ClientUsageError(f"{names}: no record can be sent again ({reasons}): record requests with their inputs")


def recorded_pace(seconds: Mapping[int, int], speed: float) -> Callable[[PredictionLog], float]:
    """A function that tells when each record is due, called in their order: as recorded, `speed` times as fast.

    seconds: how many records each second has. Recordings know no more of time: those of a second are spread evenly.
    Raises ClientUsageError for records without a time.
    """
    if 0 in seconds:
        raise ClientUsageError(
            f"{seconds[0]} records have no time, as those of a warmup file: give --rate instead of --speed"
        )
    first = min(seconds)
    positions: Counter[int] = Counter()
    last = 0.0

    def due(log: PredictionLog) -> float:
        nonlocal last
        second = log.log_metadata.timestamp_secs
        positions[second] += 1
        # A file that grows meanwhile has more than were counted; one that is not in the order of time brings none back.
        last = max(last, (second - first + positions[second] / max(seconds.get(second, 0), positions[second])) / speed)
        return last

    return due


class Kind(NamedTuple):
    """What requests have in common: their signature (several for MultiInference), and how many rows they have."""

    signature_name: str
    batch_size: int

    @classmethod
    def of(cls, request: Any) -> Kind:
        """That of a request message."""
        names = (spec.signature_name or DEFAULT_SIGNATURE for spec in _model_specs(request))
        if isinstance(request, PredictRequest):
            shapes = (request.inputs[name].tensor_shape.dim for name in sorted(request.inputs))
            sizes = [dims[0].size for dims in shapes if dims]
            size = sizes[0] if sizes else 1
        else:
            examples = getattr(request.input, request.input.WhichOneof("kind") or "example_list").examples
            size = len(examples)
        return cls("+".join(names), size)


class Replayer:
    """Makes requests of records, and compares their answers with the recorded ones.

    exchange: gives the response message for a request message. model: asked instead of those that the records name, if
    given. answers: how many came, by their kind; `same` and `different` count those that can be compared.
    """

    def __init__(self, exchange: Callable[[Message], Message], model: ModelSpec | None) -> None:
        self.answers: Counter[Kind] = Counter()
        self.same = 0
        self.different = 0
        self.first_error: ServerError | None = None
        self._exchange = exchange
        self._model = model
        self._unread: SimpleQueue[tuple[Kind, Message | None, Message]] = SimpleQueue()

    def send(self, log: PredictionLog) -> None:
        """Sends the request of a record; nothing is counted. Raises ServerError."""
        self._exchange(self._request(log))

    def request(self, log: PredictionLog) -> Request:
        """A function that sends the request of a record. To be called for one record after the other."""
        self.compare()
        request, record = self._request(log), exchange(log)
        recorded = record.response if record.HasField("response") else None
        return functools.partial(self._answer, Kind.of(request), request, recorded)

    def compare(self) -> None:
        """Compares the answers since the last time: not where they come, since that would be part of their latency."""
        with suppress(Empty):
            while True:
                kind, recorded, response = self._unread.get_nowait()
                self.answers[kind] += 1
                if recorded is not None:
                    is_same = agrees(recorded, response)
                    self.same += is_same
                    self.different += not is_same

    def _request(self, log: PredictionLog) -> Message:
        request: Message = exchange(log).request
        if self._model is not None:
            address(request, self._model)
        return request

    def _answer(self, kind: Kind, request: Message, recorded: Message | None) -> int:
        try:
            response = self._exchange(request)
        except ServerError as error:
            self.first_error = self.first_error or error
            raise
        self._unread.put((kind, recorded, response))
        return kind.batch_size


def address(request: Any, model: ModelSpec) -> None:
    """Makes a request message one for this model; its signature stays."""
    for spec in _model_specs(request):
        signature_name = spec.signature_name
        spec.Clear()
        spec.name, spec.signature_name = model.name, signature_name
        if model.version is not None:
            spec.version.value = model.version
        elif model.version_label is not None:
            spec.version_label = model.version_label


def agrees(recorded: Message, response: Message) -> bool:
    """Whether a response is the recorded one: floats within 1e-5, everything else equal; NaN never is.

    Raises ClientUsageError for a tensor that cannot be read.
    """
    try:
        expected, outputs = dict(_arrays(recorded)), dict(_arrays(response))
    except TensorError as error:
        raise ClientUsageError(f"an answer cannot be compared with the recorded one: {error}") from error
    if len(expected) == 1 and list(outputs) == [""]:
        # REST does not name a single output.
        outputs = dict(zip(expected, outputs.values(), strict=True))
    return all(name in outputs and _is_close(array, outputs[name]) for name, array in expected.items())


def _is_close(expected: Array, array: Array) -> bool:
    if expected.shape != array.shape:
        return False
    if expected.dtype.kind not in "fc" or array.dtype.kind == "O":
        return bool(np.array_equal(expected, array))
    # As float32 is printed in JSON it is another float64.
    array = array.astype(expected.dtype)
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(array - expected) <= TOLERANCE) | (array == expected)).all())


def _arrays(response: Any) -> Iterator[tuple[str, Array]]:
    if isinstance(response, PredictResponse):
        for name, proto in response.outputs.items():
            yield name, make_ndarray(proto)
    elif isinstance(response, MultiInferenceResponse):
        for index, result in enumerate(response.results):
            is_regression = result.HasField("regression_result")
            yield from _result(f"{index} ", result.regression_result if is_regression else result.classification_result)
    else:
        yield from _result("", response.result)


def _result(prefix: str, result: Any) -> Iterator[tuple[str, Array]]:
    if isinstance(result, RegressionResult):
        yield f"{prefix}values", np.array([row.value for row in result.regressions], np.float64)
    else:
        classes = [item for row in result.classifications for item in row.classes]
        yield f"{prefix}counts", np.array([len(row.classes) for row in result.classifications], np.int64)
        yield f"{prefix}labels", np.array([item.label for item in classes], object)
        yield f"{prefix}scores", np.array([item.score for item in classes], np.float64)


def _model_specs(request: Any) -> list[Any]:
    """The model_spec of a request, or of each task of a MultiInferenceRequest."""
    if isinstance(request, MultiInferenceRequest):
        return [task.model_spec for task in request.tasks]
    return [request.model_spec]
