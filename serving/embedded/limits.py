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
    # --max_request_elements: JSON values of a REST body, fields of a gRPC message: each takes memory and time however
    # short it is.
    max_request_elements: int = 2**20
    # How many times larger than it was sent a compressed REST body may become, once it is larger than the second.
    max_unpack_ratio: int = 256
    max_free_unpack_bytes: int = 16 * 2**20
    # --max_bytes_in_flight: of requests and answers, of each process; 0 = an eighth of the memory that is left once the
    # models are loaded.
    max_bytes_in_flight: int = 0
    # --max_connections, --max_connections_per_address: over both ports, of each process; 0 = no limit.
    max_connections: int = 4096
    max_connections_per_address: int = 1024
    # --header_timeout_seconds: from a connection's beginning to its first request's headers (to the end of HTTP/2's
    # preface), and from the first byte of a request to the end of its headers.
    header_timeout_seconds: float = 20.0
    # --stall_timeout_seconds: without a byte of a message that has begun, or with no byte read of an answer.
    stall_timeout_seconds: float = 20.0
    # --idle_timeout_seconds: of a REST connection between requests. TF Serving does not close those of gRPC either.
    idle_timeout_seconds: float = 75.0
