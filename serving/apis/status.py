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
        return _CODES.get(status, (cls.UNKNOWN,))[0]


# The codes that have an HTTP status, the likeliest first. 413 and 502 are a proxy's: TF Serving sends neither.
_CODES = {
    200: (Code.OK,),
    400: (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE),
    401: (Code.UNAUTHENTICATED,),
    403: (Code.PERMISSION_DENIED,),
    404: (Code.NOT_FOUND,),
    409: (Code.ABORTED, Code.ALREADY_EXISTS),
    413: (Code.RESOURCE_EXHAUSTED,),
    429: (Code.RESOURCE_EXHAUSTED,),
    499: (Code.CANCELLED,),
    500: (Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS),
    501: (Code.UNIMPLEMENTED,),
    502: (Code.UNAVAILABLE,),
    503: (Code.UNAVAILABLE,),
    504: (Code.DEADLINE_EXCEEDED,),
}
# The last status of a code is TF Serving's own.
_HTTP_STATUSES = {code: status for status, codes in _CODES.items() for code in codes}
