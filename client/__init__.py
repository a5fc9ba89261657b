"""The client: images in, class names out, over TF Serving's gRPC or REST API, without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.connection import Connection, Prediction, connect
    from client.transport import ModelSpec, VersionStatus

__all__ = ["Connection", "ModelSpec", "Prediction", "VersionStatus", "connect"]


def __getattr__(name: str) -> object:
    # The command line lives in this package too: `fashion --help` must not wait for numpy.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from client import connection

    return getattr(connection, name)
