"""The limits that the server holds its clients to: one record, read from the flags once (`options.limits`)."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Every limit, with its default. Those that no flag sets are here all the same."""

    # --max_concurrent_requests, of the whole server; 0 = no limit.
    max_concurrent_requests: int = 4096
    # --max_request_bytes: of a REST body as it is sent, and of a gRPC message, unpacked, unless
    # grpc.max_receive_message_length says otherwise.
    max_body_bytes: int = 256 * 2**20
    max_message_bytes: int = 256 * 2**20
    # grpc.max_send_message_length: of a gRPC answer.
    max_response_bytes: int = 2**31 - 1
    # Of a REST body that was sent compressed, when it is unpacked. This is TF Serving's limit.
    max_unpacked_bytes: int = 100 * 2**20
    # --max_request_rows; 0 = no limit.
    max_request_rows: int = 0
    # --max_tensor_bytes: of one input.
    max_tensor_bytes: int = 256 * 2**20
    # grpc.max_concurrent_streams: the calls of one gRPC connection at a time. It is more than a client has under way,
    # and bounds what a peer can make the server remember.
    max_streams: int = 2**16
    # Of the headers of a gRPC request, each with 32 bytes on top (RFC 9113, section 6.5.2). Beyond it the request is
    # refused; well beyond it its connection ends.
    max_header_bytes: int = 2**16
