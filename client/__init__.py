"""The client: images in, class names out, over TF Serving's gRPC or REST API, without TensorFlow.

    from client import connect
    with connect("grpc://127.0.0.1:8500") as connection:
        for prediction in connection.predict(images):     # uint8 [N, 28, 28]
            print(prediction.class_name, prediction.probability)

`client.aio.connect` is the same for asyncio, `client.transports.fake.FakeTransport` for tests.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.connection import Connection, connect
    from client.errors import ClientError, ClientUsageError, ImageError, ImageWarning, ServerError
    from client.recorder import Recorder
    from client.tracing import trace
    from client.transports.security import Security
    from client.types import ClassScore, Metadata, ModelSpec, Prediction, VersionStatus

__all__ = [
    "ClassScore",
    "ClientError",
    "ClientUsageError",
    "Connection",
    "ImageError",
    "ImageWarning",
    "Metadata",
    "ModelSpec",
    "Prediction",
    "Recorder",
    "Security",
    "ServerError",
    "VersionStatus",
    "connect",
    "trace",
]
_MODULES = (
    "client.errors", "client.types", "client.tracing", "client.transports.security", "client.connection",
    "client.recorder",
)  # fmt: skip


def __getattr__(name: str) -> object:
    # The command line lives in this package too: `fashion --help` must not wait for gRPC.
    if name in __all__:
        for module in map(importlib.import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
