"""The client's limits and defaults: others rely on their numbers."""

from __future__ import annotations

from client import limits


def test_the_limits_are_those_that_were_announced() -> None:
    """Seconds, images, requests, bytes: a message stays 64 KiB below gRPC's 4 MiB, or a MiB below protobuf's 2 GiB."""
    assert {name: value for name, value in vars(limits).items() if name.isupper()} == {
        "TIMEOUT": 10,
        "BATCH_SIZE": 256,
        "CONCURRENCY": 4,
        "MAX_CONCURRENCY": 256,
        "MAX_RATE": 100_000,
        "MESSAGE_BYTES": 4_128_768,
        "PROTO_BYTES": 2_146_435_072,
        "GZIP_BYTES": 1400,
        "MAX_GZIP_BYTES": 100_000_000,
        "ROUNDS": 3,
        "FIRST_PAUSE": 0.05,
        "HUNG_SECONDS": 30,
        "PICTURE_PIXELS": 89_478_485,
        "UPLOAD_BYTES": 33_554_432,
        "STDIN_BYTES": 268_435_456,
        "FIGURE_IMAGES": 60,
    }
