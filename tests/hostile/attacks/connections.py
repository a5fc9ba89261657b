"""REST and gRPC connections that say nothing, little, or for ever."""

from __future__ import annotations

import itertools

from tests.hostile.attacks import Steps, Target, attack
from tests.hostile.attacks.bodies import MODEL, post
from tests.hostile.attacks.crowd import Crowd
from tests.support import http2_peer as http2

HELLO = http2.PREFACE + http2.settings()


def _hold(target: Target, count: int, first: bytes, more: bytes = b"", *, seconds: float = 0.05) -> Steps:
    """Keeps so many connections to the REST port open, which send these bytes first and those at each step."""
    crowd = Crowd(target.rest)
    try:
        while True:
            crowd.fill(count, lambda: first)
            for connection in crowd if more else ():
                if crowd.is_idle(connection):
                    crowd.send(connection, more)
            crowd.pump()
            yield seconds
    finally:
        crowd.close()


@attack
def bodies_that_never_come(target: Target) -> Steps:
    """4,200 POSTs whose bodies never come."""
    return _hold(target, 4200, post(b"", length=1000))


@attack
def silent_connections(target: Target) -> Steps:
    """5,000 connections, half of them to each port, that never send a byte."""
    crowds = Crowd(target.rest), Crowd(target.grpc)
    try:
        while True:
            for crowd in crowds:
                crowd.fill(2500)
                crowd.pump()
            yield 0.05
    finally:
        for crowd in crowds:
            crowd.close()


@attack
def one_byte_at_a_time(target: Target) -> Steps:
    """300 requests whose headers come by a byte each, and 300 whose bodies do."""
    head = post(b"", length=100_000)
    crowds = Crowd(target.rest), Crowd(target.rest)
    try:
        for position in itertools.count():
            crowds[0].fill(300)
            crowds[1].fill(300, lambda: head)
            for connection in crowds[0]:
                crowds[0].send(connection, head[position % len(head) :][:1])
            for connection in crowds[1]:
                crowds[1].send(connection, b"[")
            for crowd in crowds:
                crowd.pump()
            yield 0.2
    finally:
        for crowd in crowds:
            crowd.close()


@attack
def endless_headers(target: Target) -> Steps:
    """64 requests with headers of any size: 16 KB each every time, 300 MB in all."""
    line = b"X-A: " + b"x" * 1000 + b"\r\n"
    return _hold(target, 64, b"GET / HTTP/1.1\r\nHost: a\r\n", line * 16, seconds=0.02)


@attack
def one_endless_header(target: Target) -> Steps:
    """64 requests with a target or a header that never ends."""
    first = itertools.cycle([b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"A", b"GET / HTTP/1.1\r\nHost: a\r\nX"])
    crowd = Crowd(target.rest)
    try:
        while True:
            crowd.fill(64, lambda: next(first))
            for connection in crowd:
                if crowd.is_idle(connection):
                    crowd.send(connection, b"x" * 16_000)
            crowd.pump()
            yield 0.02
    finally:
        crowd.close()


@attack
def large_bodies_that_stop(target: Target) -> Steps:
    """64 bodies of 50 MB of which 49 are sent: 3 GB, if they were kept."""
    body = post(b"[" * 49_000_000, length=50_000_000)
    return _hold(target, 64, body, seconds=0.02)


@attack
def chunks(target: Target) -> Steps:
    """Bodies in chunks of one byte, chunks with long extensions, trailers without an end."""
    head = f"POST {MODEL} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    kinds = [b"1\r\n[\r\n" * 4000, b"1;" + b"x" * 16_000 + b"\r\n[\r\n", b"X: " + b"x" * 1000 + b"\r\n"]
    crowds = [Crowd(target.rest) for _ in kinds]
    try:
        while True:
            for crowd, more, end in zip(crowds, kinds, (b"", b"", b"0\r\n"), strict=True):
                crowd.fill(8, lambda end=end: head + end)  # type: ignore[misc]
                for connection in crowd:
                    if crowd.is_idle(connection):
                        crowd.send(connection, more)
                crowd.pump()
            yield 0.05
    finally:
        for crowd in crowds:
            crowd.close()


@attack
def churn(target: Target) -> Steps:
    """1,000 new connections a second, closed at once, in the middle of a request, or after it."""
    crowds = Crowd(target.rest), Crowd(target.grpc)
    words = itertools.cycle([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HELLO[:30], HELLO])
    try:
        while True:
            for crowd in crowds:
                crowd.fill(10, lambda: next(words))
            yield 0.02
            for crowd in crowds:
                crowd.pump()
                crowd.close()
    finally:
        for crowd in crowds:
            crowd.close()


@attack
def wrong_protocols(target: Target) -> Steps:
    """HTTP/2's preface, TLS and noise to the REST port; HTTP/1.1, TLS and noise to the gRPC port."""
    tls = bytes.fromhex("16030100f8010000f40303") + bytes(240)
    noise = bytes(range(256)) * 64
    crowds = Crowd(target.rest), Crowd(target.grpc)
    words = itertools.cycle(
        [HELLO, tls, noise, b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", b"\r\n" * 9000]
    )
    try:
        while True:
            for crowd in crowds:
                crowd.fill(50, lambda: next(words), at_once=10)
                crowd.pump()
            yield 0.05
    finally:
        for crowd in crowds:
            crowd.close()
