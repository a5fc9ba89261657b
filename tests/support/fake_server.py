"""A server with two versions in memory, for the page: a FakeTransport that asyncio awaits."""

from __future__ import annotations

from typing import Any

from client.errors import ClientUsageError, server_error
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import Calls, Metadata, ModelSpec, Output, VersionStatus

_COUNT = ':tensorflow:serving:request_count{{model_name="{}",status="{}"}} {}'
_BUCKET = ':tensorflow:serving:request_latency_bucket{{API="Predict",le="{}",model_name="fashion_mnist"}} {}'


def metrics(ok: int, failed: int) -> str:
    """The metrics of a server that answered `ok` requests within a millisecond, and failed others within two."""
    counts = [("fashion_mnist", "OK", ok), ("fashion_mnist", "INTERNAL", failed), ("other", "OK", 1000)]
    buckets = [("1000.0", ok), ("2000.0", ok + failed), ("+Inf", ok + failed)]
    return "\n".join([*(_COUNT.format(*count) for count in counts), *(_BUCKET.format(*bucket) for bucket in buckets)])


class FakeServer(FakeTransport):
    """Version 1 answers class 8, version 2 class 9. labels: each one's version. text: the metrics, None for gRPC."""

    def __init__(self, **labels: int) -> None:
        super().__init__(versions=[VersionStatus(2, "AVAILABLE"), VersionStatus(1, "AVAILABLE", runtime="litert")])
        self.labels = labels
        self.text: str | None = metrics(0, 0)

    def predict(self, model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
        """Read as the outputs of the version."""
        self.class_id = 7 + self._version(model)
        return super().predict(model, calls)

    def metadata(self, model: ModelSpec) -> Exchange[Metadata]:
        """Read as the metadata of the version."""
        version = self._version(model)
        return Exchange(None, lambda _: Metadata(model.name, version, self.model_metadata.signatures))

    def metrics(self) -> Exchange[str]:
        """Read as the text."""
        text = self.text
        if text is None:
            raise ClientUsageError("metrics are on the REST port")
        return Exchange(None, lambda _: text)

    async def send(self, request: Any, timeout: float) -> Any:
        """See FakeTransport."""
        return super().send(request, timeout)

    async def close(self) -> None:
        """See FakeTransport."""
        super().close()

    def _version(self, model: ModelSpec) -> int:
        if model.version_label is not None and model.version_label not in self.labels:
            raise server_error("NOT_FOUND", f"Unrecognized servable version label: {model.version_label}")
        return model.version or self.labels.get(model.version_label or "", 2)
