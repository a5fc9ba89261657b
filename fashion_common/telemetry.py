"""OpenTelemetry's SDK as the standard OTEL_* variables ask for it; where they do not, nothing of it is imported.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fashion_common.errors import FashionError
from fashion_common.installation import install_command
from fashion_common.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanContext

# The exporters of OTEL_TRACES_EXPORTER by their entry points; of the two protocols for OTLP the standard's default.
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class TelemetryError(FashionError):
    """Traces that are asked for and cannot be made: whoever starts goes on without them."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the variables ask for traces: an exporter, or an endpoint for the usual one."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" if exporter else any(map(environment.get, _ENDPOINTS))


def start(service_name: str, environment: Mapping[str, str]) -> TracerProvider | None:
    """The SDK, set up; None where it is not wanted. service_name: where the variables have none.

    Sampler, limits, batches and endpoints are the SDK's to read. Raises TelemetryError.
    """
    if not is_wanted(environment):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise TelemetryError(
            f"no traces are sent, which the OTEL_* variables ask for: {error.name} is not installed: "
            f"{install_command('telemetry')}"
        ) from error
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": service_name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in (environment.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environment)))
    return provider


def stop(provider: TracerProvider, seconds: float) -> None:
    """Sends what is left; a collector that does not answer is given so many seconds."""
    ending = threading.Thread(target=provider.shutdown, name="telemetry", daemon=True)
    ending.start()
    ending.join(seconds)


def context_of(trace: TraceContext) -> Context:
    """What a span begins in that belongs to a trace of somebody else."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
    from opentelemetry.trace.span import TraceState

    state = TraceState.from_header([trace.tracestate]) if trace.tracestate else None
    ids = int(trace.trace_id, 16), int(trace.span_id, 16)
    span = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(trace.sampled), trace_state=state)
    return set_span_in_context(NonRecordingSpan(span), Context())


def trace_of(context: SpanContext) -> TraceContext:
    """A span as W3C's headers have it."""
    ids = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    return TraceContext(*ids, context.trace_flags.sampled, context.trace_state.to_header())


def _exporter(name: str, environment: Mapping[str, str]) -> Any:
    entry = name
    if name == "otlp":
        protocol = next(filter(None, map(environment.get, _PROTOCOLS)), "http/protobuf")
        entry = _OTLP.get(protocol, protocol)
    points = metadata.entry_points(group="opentelemetry_traces_exporter", name=entry)
    if not points:
        raise TelemetryError(
            f"no traces are sent: OTEL_TRACES_EXPORTER={name} needs the exporter {entry}, which is not installed; the "
            "extra [telemetry] has otlp (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf) and console"
        )
    try:
        return next(iter(points)).load()()
    except Exception as error:
        raise TelemetryError(f"no traces are sent: the exporter {entry} cannot be made: {error}") from error
