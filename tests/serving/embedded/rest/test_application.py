"""What becomes of a request's body before its route sees it: unpacked, charged, or refused."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator

import pytest

from serving.apis.status import Code
from serving.embedded.limits import Limits
from tests.support.http1_server import Port, request
from tests.support.http2_server import SimulatedLoop, simulated_loop

NOISE = random.Random(0).randbytes(2000)
LIMITS = Limits(max_unpacked_bytes=2000, max_unpack_ratio=10, max_free_unpack_bytes=100, max_bytes_in_flight=5000)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


def answer(loop: SimulatedLoop, body: bytes, limits: Limits = LIMITS) -> tuple[bytes, list[Code]]:
    """What a body that was sent as gzip is answered with, and the codes of the calls; nothing is held after it."""
    port = Port(loop, limits)
    data = port.connect().ask(request("/echo", body, "Content-Encoding: GZIP"))
    assert port.admission.budget.used == 0
    return data, [code for _, code in port.calls]


def test_a_body_is_unpacked_up_to_a_limit(loop: SimulatedLoop) -> None:
    """The last byte fits, one more does not."""
    data, codes = answer(loop, gzip.compress(NOISE))
    assert data.endswith(b"POST " + NOISE)
    assert codes == [Code.OK]
    data, codes = answer(loop, gzip.compress(NOISE + b"x"))
    assert b"429" in data
    assert b'larger than 2000 bytes when unpacked"' in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


def test_a_body_may_not_become_much_larger_than_it_was_sent(loop: SimulatedLoop) -> None:
    """But for small ones, whose bytes are few either way."""
    data, _ = answer(loop, gzip.compress(bytes(100)))
    assert data.endswith(b"POST " + bytes(100))
    data, codes = answer(loop, gzip.compress(bytes(1900)))
    assert b"bytes when unpacked, more than 10 times what was sent" in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


def test_what_a_body_unfolds_to_is_charged(loop: SimulatedLoop) -> None:
    """Beyond the budget it is refused."""
    data, codes = answer(loop, gzip.compress(NOISE), LIMITS._replace(max_bytes_in_flight=3500))
    assert b"--max_bytes_in_flight is 3500" in data
    assert codes == [Code.RESOURCE_EXHAUSTED]


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(NOISE)[:-1]], ids=["nothing", "none", "cut short"])
def test_what_is_no_whole_gzip_is_refused(loop: SimulatedLoop, body: bytes) -> None:
    """As a wrong request."""
    data, codes = answer(loop, body)
    assert b"400 Bad Request" in data
    assert codes == [Code.INVALID_ARGUMENT]
