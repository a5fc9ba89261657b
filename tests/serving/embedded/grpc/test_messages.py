"""Header blocks that come again: they are read once, and few are kept."""

from __future__ import annotations

import hpack
import pytest

from serving.embedded.grpc.messages import HeadReader


def block(encoder: hpack.Encoder, text: str) -> bytes:
    """Headers that leave nothing in the table."""
    return bytes(encoder.encode([hpack.NeverIndexedHeaderTuple("x", text)], huffman=False))


@pytest.fixture
def encoder() -> hpack.Encoder:
    """What a client has."""
    return hpack.Encoder()


def test_64_blocks_are_kept(encoder: hpack.Encoder) -> None:
    """What is one too many is read anew each time."""
    reader = HeadReader(10_000)
    blocks = [block(encoder, str(number)) for number in range(65)]
    heads = [reader.read(sent) for sent in blocks]
    again = [reader.read(sent) for sent in blocks]
    assert [one is other for one, other in zip(heads, again, strict=True)] == [True] * 64 + [False]


def test_blocks_of_a_kibibyte_are_kept(encoder: hpack.Encoder) -> None:
    """A byte more is too much."""
    reader = HeadReader(10_000)
    around = len(block(encoder, "x" * 1000)) - 1000
    for size, is_kept in ((1024, True), (1025, False)):
        sent = block(encoder, "x" * (size - around))
        assert len(sent) == size
        assert (reader.read(sent) is reader.read(sent)) is is_kept


def test_what_changes_the_table_is_read_anew(encoder: hpack.Encoder) -> None:
    """The same bytes may then stand for other headers."""
    reader = HeadReader(10_000)
    reader.read(bytes(encoder.encode([("x", "first")])))
    newest = bytes(encoder.encode([("x", "first")]))
    assert reader.read(newest).metadata == {b"x": b"first"}
    reader.read(bytes(encoder.encode([("x", "second")])))
    assert reader.read(newest).metadata == {b"x": b"second"}


def test_a_trace_that_comes_in_several_fields(encoder: hpack.Encoder) -> None:
    """A tracestate is one list; several traceparents are none. Of other fields the last counts."""
    fields = [("traceparent", "1"), ("tracestate", "a=1"), ("x", "1"), ("tracestate", "b=2"), ("x", "2")]
    metadata = HeadReader(10_000).read(bytes(encoder.encode(fields))).metadata
    assert metadata == {b"traceparent": b"1", b"tracestate": b"a=1,b=2", b"x": b"2"}
    twice = HeadReader(10_000).read(bytes(hpack.Encoder().encode(fields[:1] * 2))).metadata
    assert twice == {b"traceparent": b"1,1"}
