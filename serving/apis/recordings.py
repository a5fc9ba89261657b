"""Recordings: requests and their answers as PredictionLog messages in TFRecord files.

That is the format of TF Serving's request log and of its warmup file, so a recording can be a warmup file:
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_log.proto
`recording_files` writes them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from fashion_common.errors import FashionError
from serving.apis.messages import LogMetadata, ModelSpec, PredictionLog, SamplingConfig
from serving.apis.tensors import varint
from serving.apis.tfrecord import RecordError, TruncatedRecordError, is_tfrecord, read_records

# By the request's message.
_LOGS = {
    "PredictRequest": "predict_log",
    "ClassificationRequest": "classify_log",
    "RegressionRequest": "regress_log",
    "MultiInferenceRequest": "multi_inference_log",
}
_TAGS = ("serve",)


class RecordingError(FashionError):
    """A recording that cannot be read or written; the text names the file, the place and the fix."""


class Origin(NamedTuple):
    """Where a request came from: its id, and its place in a distributed trace, empty where there is none.

    `LogMetadata.request_origin` has both, since the message has no field for either: `ID`, or `ID;TRACEPARENT`. An id
    that has a semicolon itself is followed by one in any case, so that the last one ends the id.
    """

    request_id: str = ""
    traceparent: str = ""

    @property
    def text(self) -> str:
        """As `request_origin` has it."""
        return (
            f"{self.request_id};{self.traceparent}" if self.traceparent or ";" in self.request_id else self.request_id
        )

    @classmethod
    def of(cls, log: PredictionLog) -> Origin:
        """That of a record."""
        request_id, has_trace, traceparent = log.log_metadata.request_origin.rpartition(";")
        return cls(request_id, traceparent) if has_trace else cls(traceparent)


def prediction_log(
    request: Message,
    response: Message,
    origin: Origin = Origin(),  # noqa: B008 - a tuple
    *,
    sampling_rate: float = 1.0,
    timestamp_secs: int | None = None,
) -> PredictionLog:
    """A record of a request to PredictionService and its answer.

    Its metadata name the model, version and signature that answered; where the answer does not tell (REST's does not),
    those that were asked for. sampling_rate, timestamp_secs: as `log_metadata` has them; now, if not given.
    """
    metadata = log_metadata(
        (_model_spec(response) or _model_spec(request) or ModelSpec()).SerializeToString(),
        origin,
        sampling_rate=sampling_rate,
        timestamp_secs=int(time.time()) if timestamp_secs is None else timestamp_secs,
    )
    log = PredictionLog()
    log.log_metadata.MergeFromString(metadata)
    exchange = getattr(log, _LOGS[request.DESCRIPTOR.name])
    exchange.request.CopyFrom(request)
    exchange.response.CopyFrom(response)
    return log


def log_metadata(model_spec: bytes, origin: Origin, *, sampling_rate: float, timestamp_secs: int) -> bytes:
    """The bytes of a record's metadata.

    model_spec: those of what answered. sampling_rate: the share of requests that are recorded. timestamp_secs: when the
    request came, of the Unix epoch.
    """
    moment = LogMetadata(timestamp_secs=timestamp_secs, request_origin=origin.text)
    # Messages merge when their bytes are joined; most of it is the same in the next record.
    return _common_metadata(model_spec, sampling_rate) + moment.SerializeToString()


def log_bytes(metadata: bytes, request_name: str, request: Sequence[bytes], response: Sequence[bytes]) -> bytes:
    """The bytes of a PredictionLog, from those of its parts in pieces: without messages, which take copies and time.

    request_name: of the request's message.
    """
    request_size, response_size = sum(map(len, request)), sum(map(len, response))
    request_head, response_head = _head(1, request_size), _head(2, response_size)
    size = len(request_head) + request_size + len(response_head) + response_size
    heads = _head(1, len(metadata)), metadata, _head(_log_field(request_name), size)
    return b"".join((*heads, request_head, *request, response_head, *response))


def exchange(log: PredictionLog) -> Any:
    """The PredictLog, ClassifyLog, RegressLog or MultiInferenceLog of a record: its request and response."""
    return getattr(log, log.WhichOneof("log_type") or "predict_log")


def has_inputs(log: PredictionLog) -> bool:
    """Whether a record can be sent again: not when it was made with answers only."""
    request = exchange(log).request
    return any(field.name in {"inputs", "input", "feed"} for field, _ in request.ListFields())


def read_recording(path: Path) -> Iterator[PredictionLog]:
    """The records of a file, in order. A last record that is torn, as a killed writer leaves it, is passed over.

    Raises RecordingError for a file that cannot be read, is damaged, or is no recording.
    """
    records = read_records(path)
    number = 0
    while True:
        number += 1
        try:
            log = PredictionLog.FromString(next(records))
        except (StopIteration, TruncatedRecordError):
            return
        except RecordError as error:
            raise RecordingError(f"{error} (record {number}): copy the file again, or record anew") from error
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}: give a recording's path") from error
        except DecodeError as error:
            raise _no_recording(path, number) from error
        if log.WhichOneof("log_type") is None:
            raise _no_recording(path, number)
        yield log


def recordings_at(path: Path) -> list[Path]:
    """The recordings in a directory, the oldest first; a path that is no directory is itself. Raises RecordingError."""
    if not path.is_dir():
        return [path]
    try:
        return sorted(file for file in path.iterdir() if file.is_file() and is_tfrecord(file))
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}: give a recording's path") from error


def _model_spec(message: Any) -> ModelSpec | None:
    """That of a request or an answer; of several, the first."""
    for field in ("tasks", "results"):
        if field in message.DESCRIPTOR.fields_by_name:
            return _model_spec(getattr(message, field)[0]) if getattr(message, field) else None
    spec: ModelSpec = message.model_spec
    return spec if spec.name else None


@functools.cache
def _log_field(request_name: str) -> int:
    """The number of a request's log in PredictionLog."""
    return PredictionLog.DESCRIPTOR.fields_by_name[_LOGS[request_name]].number


@functools.lru_cache(1024)
def _head(number: int, size: int) -> bytes:
    """What is before the bytes of a message that is a field (https://protobuf.dev/programming-guides/encoding)."""
    return bytes((number << 3 | 2,)) + varint(size)


@functools.lru_cache(64)
def _common_metadata(model_spec: bytes, sampling_rate: float) -> bytes:
    """What a version's records have in common."""
    metadata = LogMetadata(saved_model_tags=_TAGS, sampling_config=SamplingConfig(sampling_rate=sampling_rate))
    metadata.model_spec.MergeFromString(model_spec)
    return metadata.SerializeToString()


def _no_recording(path: Path, number: int) -> RecordingError:
    return RecordingError(
        f"{path}: record {number} is no PredictionLog with a request: give a file that was recorded, or a warmup file"
    )
