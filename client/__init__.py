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
    from client.errors import ClientError, ClientUsageError, ImageError, ServerError
    from client.transports.security import Security
    from client.types import Metadata, ModelSpec, Prediction, VersionStatus

_HOMES = {
    "ClientError": "errors",
    "ClientUsageError": "errors",
    "Connection": "connection",
    "ImageError": "errors",
    "Metadata": "types",
    "ModelSpec": "types",
    "Prediction": "types",
    "Security": "security",
    "ServerError": "errors",
    "VersionStatus": "types",
    "connect": "connection",
}
__all__ = [
    "ClientError",
    "ClientUsageError",
    "Connection",
    "ImageError",
    "Metadata",
    "ModelSpec",
    "Prediction",
    "Security",
    "ServerError",
    "VersionStatus",
    "connect",
]


def __getattr__(name: str) -> object:
    # The command line lives in this package too: `fashion --help` must not wait for gRPC.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"client.{_HOMES[name]}"), name)
