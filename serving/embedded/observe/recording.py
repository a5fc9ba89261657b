"""Recording: a share of the requests that were answered, and their answers, in files, away from the request's path."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import random

from serving.apis.recording_files import RecordingWriter
from serving.apis.recordings import Origin, RecordingError, log_bytes, log_metadata
from serving.apis.tfrecord import framed
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Spare
from serving.embedded.models.request_logging import RequestLogging

log = logging.getLogger(__name__)

# What recorded requests and answers may hold until they are written, beside --max_bytes_in_flight.
MAX_HELD_BYTES = 16 * 2**20
# Records are gathered for so long: one that is made alone takes five times as long as one of many, for which code and
# tables are in the processor's caches, and each write hands the interpreter over.
_GATHER_SECONDS = 0.5
# What is written at once.
_BATCH_BYTES = 2**22
# How often it is looked whether a file is old, how often an error of the disk is logged, how long the last records may
# take.
_LOOK_SECONDS = 1.0
_ERROR_SECONDS = 60.0
_CLOSE_SECONDS = 5.0

WRITTEN, DROPPED, FAILED = "written", "dropped", "failed"

# Counts records: the model's name, one of the three, and how many.
Count = Callable[[str, str, int], None]


class Record(Sample):
    """A request that is recorded. origin, seconds: where it came from, and when, in seconds of the Unix epoch."""

    wants_arrays = False

    def __init__(self, spare: Spare, model: str, logging: RequestLogging, *, keeps_inputs: bool) -> None:
        super().__init__(spare, model, keeps_inputs=keeps_inputs)
        self.logging = logging
        self.origin = Origin()
        self.seconds = 0


class Recording:
    """Chooses requests by chance, and has a thread write them. Lives on the event loop, but for its thread.

    writer: makes one for a filename_prefix. budget: of requests; records take what is spare. call_soon: does something
    on the event loop. answers_only: whether inputs are left out. count: of records.
    """

    def __init__(
        self,
        writer: Callable[[str], RecordingWriter],
        budget: Budget,
        call_soon: Callable[[Callable[[], object]], object],
        *,
        answers_only: bool = False,
        count: Count = lambda *_: None,
    ) -> None:
        self._keeps_inputs = not answers_only
        self._new_writer = writer
        self._spare = Spare(budget, MAX_HELD_BYTES)
        self._call_soon = call_soon
        self._count = count
        self._logging: Mapping[str, RequestLogging] = {}
        self._queue: collections.deque[Record] = collections.deque()
        self._writers: dict[str, RecordingWriter] = {}
        self._wake = threading.Event()
        # Set when the thread must not gather any more records.
        self._is_urgent = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._next_error = 0.0

    def set_models(self, logging: Mapping[str, RequestLogging]) -> None:
        """Records these models' requests from now on; files of places that are none any more are ended."""
        self._logging = {name: each for name, each in logging.items() if each.sampling_rate > 0}
        if self._thread is not None:
            self._wake.set()
        elif self._logging:
            self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
            self._thread.start()

    def sample(self, model: str) -> Record | None:
        """What to record a request to a model with, or None: most are not chosen."""
        if not self._logging:
            return None
        logging = self._logging.get(model)
        if logging is None or random() >= logging.sampling_rate:  # noqa: S311 - a sample
            return None
        return Record(self._spare, model, logging, keeps_inputs=self._keeps_inputs)

    def end(self, record: Record, origin: Origin | None, seconds: float) -> None:
        """Has it written, or lets go of it. origin: None for a request that failed. seconds: how long it took."""
        if origin is not None and record.is_dropped:
            self._count(record.model, DROPPED, 1)
        elif origin is None or not record.is_whole:
            self._spare.release(record.let_go())
        else:
            record.origin = origin
            record.seconds = int(time.time() - seconds)
            self._queue.append(record)
            if not self._wake.is_set():
                self._wake.set()
            if self._spare.held > MAX_HELD_BYTES // 4:
                self._is_urgent.set()

    def close(self) -> None:
        """Writes what is left, and ends the files; a disk that hangs is given five seconds."""
        self._is_closing = True
        self._is_urgent.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.wait(_LOOK_SECONDS if self._writers else None)
            self._is_urgent.wait(_GATHER_SECONDS)
            self._is_urgent.clear()
            self._wake.clear()
            # After that: what is asked for from now on wakes it up again.
            is_last = self._is_closing
            self._write_all()
            self._end_files(() if is_last else {each.filename_prefix for each in self._logging.values()})
            if is_last:
                return

    def _write_all(self) -> None:
        while self._queue:
            prefix, size, records = self._queue[0].logging.filename_prefix, 0, []
            while self._queue and size < _BATCH_BYTES and self._queue[0].logging.filename_prefix == prefix:
                records.append(self._queue.popleft())
                size += records[-1].size
            self._write(prefix, records)
            self._call_soon(partial(self._spare.release, sum([record.let_go() for record in records])))

    def _write(self, prefix: str, records: Sequence[Record]) -> None:
        """Writes records at once, and counts them."""
        if prefix not in self._writers:
            self._writers[prefix] = self._new_writer(prefix)
        writer, frames, models = self._writers[prefix], [], Counter[str]()
        for record in records:
            try:
                frame = _framed(record)
                writer.check(frame)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one may be written
                self._fail({record.model: 1}, error)
            else:
                frames.append(frame)
                models[record.model] += 1
        try:
            writer.extend(frames)
        except RecordingError as error:
            self._fail(models, error)
        else:
            for model, count in models.items():
                self._count(model, WRITTEN, count)

    def _fail(self, models: Mapping[str, int], error: Exception) -> None:
        if time.monotonic() >= self._next_error:
            self._next_error = time.monotonic() + _ERROR_SECONDS
            is_known = isinstance(error, RecordingError)
            log.error("A request was not recorded: %s", error, exc_info=None if is_known else error)
        # After the log: whoever sees the count finds the reason there.
        for model, count in models.items():
            self._count(model, FAILED, count)

    def _end_files(self, prefixes: Iterable[str]) -> None:
        """Ends the files of all other places, and those that are old."""
        for prefix, writer in list(self._writers.items()):
            if prefix in prefixes:
                writer.end_old()
            else:
                writer.close()
                del self._writers[prefix]


def _framed(record: Record) -> bytes:
    """A record as it is in a file."""
    assert record.response is not None
    assert record.spec is not None
    rate, spec = record.logging.sampling_rate, record.spec.SerializeToString()
    metadata = log_metadata(spec, record.origin, sampling_rate=rate, timestamp_secs=record.seconds)
    name, head = record.request
    return framed(log_bytes(metadata, name, [head, *(record.inputs() if record.inputs else ())], record.response()))
