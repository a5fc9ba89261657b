"""The limits that the server holds its clients to: one record, read from the flags once (`options.limits`)."""

from __future__ import annotations

from typing import NamedTuple

_INT_MAX = 2**31 - 1


class Limits(NamedTuple):
    """Counts and bytes, with the flags' defaults.

    max_message_bytes, max_response_bytes: of a gRPC message, either way. max_body_bytes: of a REST request's body, and
    max_unpacked_bytes of one that was compressed, which is TF Serving's limit. max_header_bytes: of a gRPC request's
    headers. max_streams: the calls of one gRPC connection at a time. max_concurrent_requests: of the whole server.
    max_rows: of a batch. Of the last two 0 is no limit.
    """

    max_message_bytes: int = 256 * 2**20
    max_response_bytes: int = _INT_MAX
    max_body_bytes: int = 256 * 2**20
    max_unpacked_bytes: int = 100 * 2**20
    max_tensor_bytes: int = 256 * 2**20
    max_header_bytes: int = 2**16
    # More than a client has under way; it bounds what a peer can make the server remember.
    max_streams: int = 2**16
    max_concurrent_requests: int = 4096
    max_rows: int = 0
