"""An OTLP receiver as a process: takes ExportTraceServiceRequest over HTTP and writes each span as a line of JSON.

Spec: https://opentelemetry.io/docs/specs/otlp/#otlphttp. The messages are those of opentelemetry-proto.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Receiver(NamedTuple):
    """Where spans are sent, and the file that has them."""

    endpoint: str
    file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a process that sends its spans there, within a moment."""
        return {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def spans(self) -> list[dict[str, Any]]:
        """What has come so far."""
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@contextmanager
def receiver(directory: Path) -> Iterator[Receiver]:
    """A receiver that is ready, for as long as the block lasts."""
    file = directory / "spans.jsonl"
    file.touch()
    command = [sys.executable, "-m", "tests.support.otlp_receiver", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Receiver(f"http://127.0.0.1:{int(process.stdout.readline())}", file)
        finally:
            process.kill()


def _value(value: Any) -> Any:
    """That of an AnyValue."""
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def main() -> None:
    """Serves on a free port, which is printed; the file is the only argument."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    def spans(request: Any) -> Iterator[dict[str, Any]]:
        for resource in request.resource_spans:
            service = {each.key: _value(each.value) for each in resource.resource.attributes}["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                yield {
                    "service": service,
                    "name": span.name,
                    "kind": span.kind,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "links": [link.span_id.hex() for link in span.links],
                    "attributes": {each.key: _value(each.value) for each in span.attributes},
                    "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            data = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            assert self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(data)
            with Path(sys.argv[1]).open("a") as file:
                file.writelines(json.dumps(span) + "\n" for span in spans(request))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
