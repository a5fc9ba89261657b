"""Whole REST requests: too many at a time, and answers that nobody reads."""

from __future__ import annotations

from tests.hostile.attacks import Address, Steps, Target, attack
from tests.hostile.attacks.bodies import post
from tests.hostile.attacks.crowd import Crowd

BIG = post(b'{"instances":[1.0]}', path="/v1/models/big_answers:predict")
SMALL = post(b'{"instances":[1.0]}')


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: attacker\r\n\r\n".encode()


def _flood(target: Address, count: int, data: bytes, *, reads: bool, seconds: float = 0.05) -> Steps:
    crowd = Crowd(target, reads=reads)
    try:
        while True:
            crowd.fill(count, lambda: data, at_once=8)
            for connection in crowd if reads else ():
                if crowd.is_idle(connection):
                    crowd.send(connection, data)
            crowd.pump()
            yield seconds
    finally:
        crowd.close()


@attack
def unread_answers(target: Target) -> Steps:
    """32 requests for answers of 10 MB that nobody reads."""
    return _flood(target.rest, 32, BIG, reads=False)


@attack
def pipelined_unread(target: Target) -> Steps:
    """50,000 pipelined requests over 20 connections that read nothing."""
    return _flood(target.rest, 20, SMALL * 2500, reads=False)


@attack
def pipelined(target: Target) -> Steps:
    """100 pipelined requests at a time on each of 8 connections."""
    return _flood(target.rest, 8, SMALL * 100, reads=True, seconds=0.1)


@attack
def metrics_and_metadata(target: Target) -> Steps:
    """2,000 scrapes of metrics, metadata and status a second."""
    paths = ("/monitoring/prometheus/metrics", "/v1/models/tf1/metadata", "/v1/models/tf1", "/nothing/of/the/kind")
    return _flood(target.rest, 5, b"".join(get(path) for path in paths) * 5, reads=True)


@attack
def expectations(target: Target) -> Steps:
    """500 requests that wait for `100 Continue` and send no body then, and 100 upgrades."""
    lines = b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    head = post(b"", length=1000)[:-2]
    crowds = [Crowd(target.rest) for _ in lines]
    try:
        while True:
            for crowd, line, count in zip(crowds, lines, (500, 100), strict=True):
                crowd.fill(count, lambda line=line: head + line + b"\r\n")  # type: ignore[misc]
                crowd.pump()
            yield 0.1
    finally:
        for crowd in crowds:
            crowd.close()
