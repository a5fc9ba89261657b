"""The messages of TensorFlow's profiler service, whose descriptors TensorFlow does not ship.

Numbers and names are those of
https://github.com/openxla/tsl/blob/main/tsl/profiler/protobuf/profiler_service.proto and profiler_options.proto; fields
that a trace here does not follow are left out.
"""

from __future__ import annotations

from serving.apis import handmade, messages

SERVICE = "tensorflow.ProfilerService"
_PACKAGE = "tensorflow"

handmade.add(
    "serving/apis/profiler.proto",
    _PACKAGE,
    {
        "ProfileOptions": (
            (2, "host_tracer_level", "uint32"),
            (3, "device_tracer_level", "uint32"),
            (4, "python_tracer_level", "uint32"),
        ),
        "ProfileRequest": (
            (1, "duration_ms", "uint64"),
            (4, "opts", f"{_PACKAGE}.ProfileOptions"),
            (5, "repository_root", "string"),
            (6, "session_id", "string"),
            (7, "host_name", "string"),
            (9, "emit_xspace", "bool"),
        ),
        # On the wire a message is its bytes: the trace goes out as TensorFlow wrote it.
        "ProfileResponse": ((7, "empty_trace", "bool"), (8, "xspace", "bytes")),
        "TerminateRequest": ((1, "session_id", "string"),),
        "TerminateResponse": (),
    },
)

ProfileOptions = messages.message_class(f"{_PACKAGE}.ProfileOptions")
ProfileRequest = messages.message_class(f"{_PACKAGE}.ProfileRequest")
ProfileResponse = messages.message_class(f"{_PACKAGE}.ProfileResponse")
TerminateRequest = messages.message_class(f"{_PACKAGE}.TerminateRequest")
TerminateResponse = messages.message_class(f"{_PACKAGE}.TerminateResponse")
