"""REST bodies that cost more than they weigh: JSON, gzip and base64."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Sequence

from tests.hostile.attacks import Steps, Target, attack
from tests.hostile.attacks.crowd import Crowd

MODEL = "/v1/models/half_plus_two:predict"


def post(body: bytes, *, path: str = MODEL, coding: str = "", length: int | None = None) -> bytes:
    """A request. length: what it says of the body, when that is not the truth."""
    lines = [f"POST {path} HTTP/1.1", "Host: attacker", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"Content-Encoding: {coding}"] if coding else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def send_in_turn(target: Target, requests: Callable[[], Sequence[bytes]], seconds: float) -> Steps:
    """Sends requests one after the other, each over a connection of its own, and reads what comes."""
    crowd = Crowd(target.rest)
    try:
        while True:
            for request in requests():
                if len(crowd) < 8:
                    crowd.open(request)
                for _ in range(max(1, int(seconds / 0.02))):
                    crowd.pump()
                    yield 0.02
    finally:
        crowd.close()


@functools.cache
def _packed_lists() -> Sequence[bytes]:
    requests = []
    for count in (9_000_000, 33_000_000):
        body = gzip.compress(b'{"instances":5,"junk":[' + b"[]," * count + b"[]]}", 9)
        requests.append(post(body, coding="gzip"))
    return requests


@attack
def packed_lists(target: Target) -> Steps:
    """26 and 94 KB of gzip that are 9 and 33 million JSON lists."""
    return send_in_turn(target, _packed_lists, 0.5)


@functools.cache
def _packed_bytes() -> Sequence[bytes]:
    blank = b'{"instances":' + b" " * 95_000_000 + b"[1.0]}"
    twice = gzip.compress(gzip.compress(bytes(200_000_000), 1), 9)
    many = gzip.compress(b" ", 9) * 40_000
    return [
        post(gzip.compress(blank, 6), coding="gzip"),
        post(gzip.compress(bytes(2**28), 6), coding="gzip"),
        post(twice, coding="gzip"),
        post(twice, coding="gzip, gzip"),
        post(many, coding="gzip"),
    ]


@attack
def packed_bytes(target: Target) -> Steps:
    """gzip that becomes 100 to 256 MB of blanks and zeros, gzip of gzip, 40,000 members of gzip."""
    return send_in_turn(target, _packed_bytes, 0.3)


@functools.cache
def _dear_json() -> Sequence[bytes]:
    million = 1_000_000
    bodies = [
        b'{"instances":[' + b"[]," * million + b"[]]}",
        # NaN sends a body to the standard library's parser, which is slower.
        b'{"instances":[NaN' + b",[]" * million + b"]}",
        b'{"instances":[NaN' + b',{"a":1}' * (million // 4) + b"]}",
        b'{"instances":[' + b"1" * million + b"]}",
        b'{"instances":[NaN,' + b"1" * million + b"]}",
        b'{"instances":[1e' + b"9" * million + b"]}",
        b"{" + b'"instances":1,' * (million // 2) + b'"instances":[1.0]}',
        b"{" + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}",
        b'{"a":' * 200_000,
        b'{"instances":' + b"[" * million + b"]" * million + b"}",
        b'{"instances":["' + b"\\u00e9" * million + b'"]}',
        b'{"instances":["' + b"\\ud800" * million + b'"]}',
        b'{"instances":["' + b"\\" * million,
        b'{"instances":[{"b64":"' + b"AAAA" * 2 * million + b'"}]}',
        b'{"instances":[' + b'{"b64":"AA=="},' * (million // 2) + b'{"b64":"!"}]}',
        b'{"instances":"' + b"x" * 4 * million + b'"}',
        b'{"signature_name":"' + b"x" * 4 * million + b'","instances":[1.0]}',
        b'{"instances":[' + b'{"x":1.0},' * (million // 4) + b'{"z":1.0}]}',
        b'{"instances":[' + b"[1.0]," * (million // 3) + b"[1.0,2.0]]}",
        b'{"inputs":{"x":[' + b'"a",' * (million // 2) + b'"a"]}}',
    ]
    return [post(body) for body in bodies]


@attack
def dear_json(target: Target) -> Steps:
    """20 kinds of JSON of some MB: deep, doubled, escaped, NaN, base64, numbers of a million digits."""
    return send_in_turn(target, _dear_json, 0.15)


@functools.cache
def _large_batches() -> Sequence[bytes]:
    rows = b",".join([b"0.5"] * 500_000)
    return [post(b'{"instances":[' + rows + b"]}"), post(b'{"inputs":{"x":[' + rows + b"]}}")]


@attack
def large_batches(target: Target) -> Steps:
    """Right requests of half a million rows, whose answers are as large."""
    return send_in_turn(target, _large_batches, 0.3)


@functools.cache
def _many_examples() -> Sequence[bytes]:
    examples = b",".join([b'{"x":[0.5]}'] * 50_000)
    features = b"{" + b",".join(b'"f%d":[1.0]' % number for number in range(50_000)) + b',"x":[1.0]}'
    bodies = [(b'{"signature_name":"%b","examples":[%b]}' % (name, what), kind)
              for what in (examples, features)
              for name, kind in ((b"classify_x_to_y", "classify"), (b"regress_x_to_y", "regress"))]  # fmt: skip
    return [post(body, path=f"/v1/models/tf1:{kind}") for body, kind in bodies]


@attack
def many_examples(target: Target) -> Steps:
    """Classify and Regress over REST with 50,000 examples, and with 50,000 features in one."""
    return send_in_turn(target, _many_examples, 0.3)
