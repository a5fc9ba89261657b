"""Prometheus metrics under TF Serving's names.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/util.cc has the names and the
buckets; times are in microseconds.
"""

from __future__ import annotations

import os
import re
import time

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess

from serving.apis.status import Code

CONTENT_TYPE = b"text/plain"
DEFAULT_PATH = "/monitoring/prometheus/metrics"
# Scale 10, growth 1.8, 33 buckets: up to about 20 minutes.
_LATENCY_BUCKETS = tuple(10 * 1.8**k for k in range(33))
_BATCH_BUCKETS = tuple(2.0**k for k in range(15))
_TOTAL = re.compile(r"(:tensorflow:serving:\w+)_total\b")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counts requests and times them; one object a process."""

    def __init__(self) -> None:
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
        # Those of a kind of request: looking one up in prometheus_client costs more than everything else here.
        self._series: dict[tuple[str, str, str, Code], tuple[Counter, Histogram]] = {}

    def request(self, model_name: str, api: str, entrypoint: str, code: Code, begin: float) -> None:
        """One request answered. begin: `time.perf_counter` when it came."""
        key = (model_name, api, entrypoint, code)
        series = self._series.get(key)
        if series is None:
            count, latency = self._count.labels(model_name, code.name), self._request.labels(*key[:3])
            series = self._series[key] = (count, latency)
        series[0].inc()
        series[1].observe((time.perf_counter() - begin) * 1e6)

    def run(self, model_name: str, seconds: float) -> None:
        """One run of TensorFlow's."""
        self._runtime.labels(model_name, "Predict", "TF1").observe(seconds * 1e6)

    def batch(self, model_name: str, size: int) -> None:
        """One batch that was run."""
        self._batch.labels(model_name).observe(size)

    def exposition(self) -> bytes:
        """All metrics as text; those of all worker processes where there are several."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = prometheus_client.generate_latest(registry).decode()
        # prometheus_client ends every counter with _total; TF Serving does not.
        return _TOTAL.sub(r"\1", text).encode()

    def _histogram(
        self, name: str, text: str, labels: list[str], buckets: tuple[float, ...] = _LATENCY_BUCKETS
    ) -> Histogram:
        return Histogram(f":tensorflow:serving:{name}", text, labels, buckets=buckets, registry=self._registry)
