"""What clients are held to where no flag says otherwise."""

from __future__ import annotations

from serving.embedded.limits import Limits


def test_the_limits_without_flags() -> None:
    """Documented in docs/operations.md; some have no flag."""
    assert Limits()._asdict() == {
        "max_concurrent_requests": 4096,
        "max_body_bytes": 268_435_456,
        "max_message_bytes": 268_435_456,
        "max_response_bytes": 2_147_483_647,
        "max_unpacked_bytes": 104_857_600,
        "max_request_rows": 0,
        "max_tensor_bytes": 268_435_456,
        "max_streams": 65_536,
        "max_header_bytes": 65_536,
        "max_request_elements": 1_048_576,
        "max_unpack_ratio": 256,
        "max_free_unpack_bytes": 16_777_216,
        "max_bytes_in_flight": 0,
        "max_connections": 4096,
        "max_connections_per_address": 1024,
        "header_timeout_seconds": 20.0,
        "stall_timeout_seconds": 20.0,
        "idle_timeout_seconds": 75.0,
    }
