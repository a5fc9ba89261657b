"""The status codes of an answer, and the HTTP statuses that TF Serving's REST API gives for them.

Codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html. Statuses: ToHTTPStatusCode in
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/http_server.cc
"""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """The canonical status codes: the same numbers in gRPC, in TensorFlow and in a StatusProto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """What REST answers for this code."""
        return _HTTP_STATUSES[self]

    @classmethod
    def of_http_status(cls, status: int) -> Code:
        """The code that an HTTP status stands for, the likeliest where several do; UNKNOWN when none does."""
        return _CODES.get(status, cls.UNKNOWN)


# Where several codes share a status, the likeliest is first.
_HTTP_STATUSES = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.INTERNAL: 500,
    Code.UNKNOWN: 500,
    Code.DATA_LOSS: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
# 413 and 502 are a proxy's: TF Serving sends neither.
_CODES = {413: Code.RESOURCE_EXHAUSTED, 502: Code.UNAVAILABLE}
for _code, _status in _HTTP_STATUSES.items():
    _CODES.setdefault(_status, _code)
