"""What one gRPC connection may ask of the server, and for how long."""

from __future__ import annotations

from typing import NamedTuple

from serving.embedded.limits import Limits


class ConnectionOptions(NamedTuple):
    """Bounds of one connection. Times are in seconds, None for no limit."""

    limits: Limits = Limits()
    max_idle: float | None = None
    max_age: float | None = None
    # For the calls under way at max_age.
    max_age_grace: float | None = None
    # For the answer to the PING of an orderly end.
    drain_seconds: float = 1.0
    # From the last bytes sent to the close: closing while the peer's bytes are unread resets the connection, and what
    # was sent last may be lost with it.
    linger_seconds: float = 1.0
    # Larger frames than HTTP/2's 16 KiB: fewer of them for large tensors.
    max_frame_bytes: int = 2**20
    # HTTP/2 sets no limit, but see https://nvd.nist.gov/vuln/detail/CVE-2024-27316.
    max_continuations: int = 32
    # Messages of one streaming call that its handler has not taken yet.
    max_queued_messages: int = 1000
    # Streaming calls cost a task each for as long as they are open.
    max_streaming_calls: int = 100
    # A peer that opens no window may begin no call while more than this waits for it: both bytes and calls, since a
    # few answers may be of any size.
    max_waiting_bytes: int = 2**26
    max_waiting_calls: int = 100
    # A peer may cancel as many calls as were answered, or make the server cancel them, and this many more:
    # https://nvd.nist.gov/vuln/detail/CVE-2023-44487, https://kb.cert.org/vuls/id/767506.
    free_strikes: int = 1000
