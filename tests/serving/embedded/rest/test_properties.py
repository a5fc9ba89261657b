"""What holds for all that a client may send over REST: how bytes are cut does not matter, and nothing stays held."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.embedded.limits import Limits
from tests.support.http1_server import Port, request
from tests.support.http2_server import simulated_loop

LIMITS = Limits(max_body_bytes=500, max_header_bytes=400, max_bytes_in_flight=20_000)
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = st.sampled_from(
    [
        request(body=b"hello"),
        request("/healthz", method="GET"),
        request(method="HEAD"),
        request("/echo", b"abc", "Connection: close"),
        request("/echo", b"abc", version="1.0"),
        request("/echo", gzip.compress(b"packed"), "Content-Encoding: gzip"),
        request("/echo", b"abc", "Expect: 100-continue"),
        request("/echo", b"abc", "Connection: upgrade", "Upgrade: h2c"),
        request(body=b"x" * 500),
        request(body=b"x" * 501),
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3;a=b\r\nabc\r\n0\r\nTrailer: t\r\n\r\n",
        CHUNKED + b"ffffffff\r\n",
        request("/echo", b"", "X: " + "x" * 600),
        request("/echo", b"", *["a:"] * 20),
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=40), max_size=6).map(b"".join)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def answers(data: bytes, cuts: Iterable[int], *, leaves: bool) -> bytes:
    """All that a client is told, but for what differs each time; holds what must hold in any case."""
    with simulated_loop() as loop:
        port = Port(loop, LIMITS)
        client = port.connect()
        told, begin = b"", 0
        for cut in [*sorted(cuts), len(data)]:
            client.send(data[begin:cut])
            told += client.read()
            begin = max(begin, cut)
        if leaves:
            client.transport.close()
        else:
            client.protocol.eof_received()
            told += client.read()
        port.pass_time(2)
        port.pass_time(100)
        assert not port.connections
        assert port.admission.budget.used == 0
        assert len(port.admission.connections) == 0
    return re.sub(
        rb"(x-request-id|traceresponse|date): [^\r]*", b"", told.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    )


@settings(deadline=None)
@given(STREAMS, CUTS)
def test_how_the_clients_bytes_are_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    """Every request gets the same answer, and a wrong one ends the connection at the same point."""
    assert answers(data, cuts, leaves=False) == answers(data, [], leaves=False)


@settings(deadline=None)
@given(STREAMS, CUTS)
def test_nothing_is_held_for_a_client_that_has_gone(data: bytes, cuts: list[int]) -> None:
    """Whatever it had sent."""
    answers(data, cuts, leaves=True)
