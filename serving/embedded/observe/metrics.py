"""Prometheus metrics under TF Serving's names, and those of our own under `:fashion:`.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/util.cc has the names and the
buckets; times are in microseconds.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import prometheus_client
import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess
from prometheus_client.mmap_dict import MmapedDict

from serving.apis.status import Code
from serving.embedded.observe.distribution import Distribution

CONTENT_TYPE = b"text/plain"
DEFAULT_PATH = "/monitoring/prometheus/metrics"
# Scale 10, growth 1.8, 33 buckets: up to about 20 minutes.
_LATENCY_BUCKETS = tuple(10 * 1.8**k for k in range(33))
_BATCH_BUCKETS = tuple(2.0**k for k in range(15))
_MAX_PAIRS = 1000
_TOTAL = re.compile(r"(:(?:tensorflow:serving|fashion:\w+):\w+)_total\b")

# Of a worker's file, when it begins; its size doubles when it is full.
_FILE_BYTES = 2**16
# A value and its length, beside its name.
_VALUE_BYTES = 32

log = logging.getLogger(__name__)
M = TypeVar("M", Counter, Histogram)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class _ReservedFile(MmapedDict):
    """prometheus_client's file of one worker's numbers, whose room on the disk is taken before it is written to.

    The file is mapped into memory, where a page for which a full disk has no room ends the process (SIGBUS). Raises
    OSError instead.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self.reserve(filename, _FILE_BYTES)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + _VALUE_BYTES > self._capacity:
            self.reserve(self._fname, 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    @staticmethod
    def reserve(filename: str, size: int) -> None:
        """Lets a file have so many bytes, all on the disk; an empty one that cannot is gone."""
        path = Path(filename)
        with path.open("ab", buffering=0) as file:
            try:
                while (missing := size - file.tell()) > 0:
                    file.write(bytes(missing))
            except OSError:
                if file.tell() < _FILE_BYTES:
                    path.unlink()
                raise


class Metrics:
    """Counts requests and times them; one object a process. worker: of several processes, this one's number.

    A worker that is started again goes on with the numbers of the one before. What cannot be counted, because a disk is
    full, is not: no call ever fails for it.
    """

    def __init__(self, worker: int = -1) -> None:
        if worker >= 0:
            prometheus_client.values.MmapedDict = _ReservedFile  # type: ignore[attr-defined]
            # Not by process id: each death would leave its files.
            prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._count = Counter(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._request = self._histogram(
            "request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ["model_name", "API", "entrypoint"],
        )
        self._runtime = self._histogram(
            "runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ["model_name", "API", "runtime"],
        )
        self._batch = self._histogram(
            "batching_session:processed_batch_size",
            "Tracks the batch size distribution on processing.",
            ["model_name"],
            _BATCH_BUCKETS,
        )
        self._records = Counter(
            ":fashion:recording:record_count",
            "The total number of requests that were chosen to be recorded.",
            ["model_name", "outcome"],
            registry=self._registry,
        )
        self._classes = Counter(
            ":fashion:distribution:prediction_count",
            "Predictions by class: of requests (live), and of the test set (test_set).",
            ["model_name", "version", "source", "class_id"],
            registry=self._registry,
        )
        self._confidence = Counter(
            ":fashion:distribution:confidence_count",
            "Predictions by the probability of their class, in tenths: 0.9 is from 0.9 to 1.",
            ["model_name", "version", "source", "confidence"],
            registry=self._registry,
        )
        self.predictions = Distribution(functools.partial(self.distribution, "live"))
        self._shadows = Counter(
            ":fashion:shadow:request_count",
            "The total number of requests that were chosen for the shadow.",
            ["model_name", "outcome"],
            registry=self._registry,
        )
        self._rows = Counter(
            ":fashion:shadow:row_count",
            "The total number of rows that the shadow compared.",
            ["model_name", "outcome"],
            registry=self._registry,
        )
        self._pairs = Counter(
            ":fashion:shadow:disagreement_count",
            "The rows that disagreed, by the class that was served and the shadow's.",
            ["model_name", "served", "shadow"],
            registry=self._registry,
        )
        self._shadow_latency = Histogram(
            ":fashion:shadow:run_latency",
            "Distribution of wall time (in microseconds) of runs of the shadow, and of the served version beside it.",
            ["model_name", "version"],
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._known_pairs: set[tuple[str, str, str]] = set()
        # By what they count, None for what cannot be: prometheus_client's own look-up costs more than all else here.
        self._series: dict[tuple[object, ...], Counter | Histogram | None] = {}

    def request(self, model_name: str, api: str, entrypoint: str, code: Code, begin: float) -> None:
        """One request answered. begin: `time.perf_counter` when it came."""
        if (count := self._labelled(self._count, model_name, code.name)) is not None:
            count.inc()
        if (latency := self._labelled(self._request, model_name, api, entrypoint)) is not None:
            latency.observe((time.perf_counter() - begin) * 1e6)

    def run(self, model_name: str, runtime: str, seconds: float) -> None:
        """One run of a model. runtime: `TF1`, as TF Serving names sessions, or `LiteRT`."""
        if (latency := self._labelled(self._runtime, model_name, "Predict", runtime)) is not None:
            latency.observe(seconds * 1e6)

    def batch(self, model_name: str, size: int) -> None:
        """One batch that was run."""
        if (sizes := self._labelled(self._batch, model_name)) is not None:
            sizes.observe(size)

    def record(self, model_name: str, outcome: str, count: int) -> None:
        """So many requests that were chosen to be recorded. outcome: `written`, `dropped` or `failed`."""
        self._add(self._records, count, model_name, outcome)

    def distribution(
        self, source: str, model_name: str, version: int, classes: Sequence[int], confidence: Sequence[int]
    ) -> None:
        """Predictions by class, and by confidence in bins of equal width. source: `live` or `test_set`."""
        bins = [f"{number / len(confidence):g}" for number in range(len(confidence))]
        for metric, names, counts in (
            (self._classes, [str(class_id) for class_id in range(len(classes))], classes),
            (self._confidence, bins, confidence),
        ):
            for name, count in zip(names, counts, strict=True):
                if count and (series := self._labelled(metric, model_name, str(version), source, name)) is not None:
                    series.inc(count)

    def shadow_request(self, model_name: str, outcome: str) -> None:
        """One request that was chosen for the shadow. outcome: `agreed`, `disagreed`, `failed` or `dropped`."""
        self._add(self._shadows, 1, model_name, outcome)

    def shadow_rows(self, model_name: str, agreed: int, pairs: Mapping[tuple[str, str], int]) -> None:
        """The rows of one request: those that agreed, and the others by the two classes."""
        self._add(self._rows, agreed, model_name, "agreed")
        self._add(self._rows, sum(pairs.values()), model_name, "disagreed")
        for (served, shadow), count in pairs.items():
            key = (model_name, served, shadow)
            # A model may make classes up: no more than so many become series.
            if key not in self._known_pairs and len(self._known_pairs) >= _MAX_PAIRS:
                key = (model_name, "other", "other")
            self._known_pairs.add(key)
            self._add(self._pairs, count, *key)

    def shadow_run(self, model_name: str, version: str, seconds: float) -> None:
        """One run for the shadow, of the version that is `served` or of the `shadow`."""
        if (latency := self._labelled(self._shadow_latency, model_name, version)) is not None:
            latency.observe(seconds * 1e6)

    def _add(self, counter: Counter, count: int, *labels: str) -> None:
        if (series := self._labelled(counter, *labels)) is not None:
            series.inc(count)

    def exposition(self) -> bytes:
        """All metrics as text; those of all worker processes where there are several.

        Of the others' predictions the last few hundred may be missing.
        """
        self.predictions.flush()
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = prometheus_client.generate_latest(registry).decode()
        # prometheus_client ends every counter with _total; TF Serving does not.
        return _TOTAL.sub(r"\1", text).encode()

    def _labelled(self, metric: M, *labels: str) -> M | None:
        """The series of a metric with these labels, or None when there is no room for it."""
        key = (metric, labels)
        try:
            return self._series[key]  # type: ignore[return-value]
        except KeyError:
            pass
        try:
            series = metric.labels(*labels)
        except Exception as error:  # noqa: BLE001 - a file that another process has spoilt raises anything
            if None not in self._series.values():
                log.warning("The metrics are not complete: %s", error)
            series = None
        self._series[key] = series
        return series

    def _histogram(
        self, name: str, text: str, labels: list[str], buckets: tuple[float, ...] = _LATENCY_BUCKETS
    ) -> Histogram:
        return Histogram(f":tensorflow:serving:{name}", text, labels, buckets=buckets, registry=self._registry)
