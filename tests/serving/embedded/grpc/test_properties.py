"""What holds for all inputs: how bytes are cut does not matter, nor whether a header block was seen before."""

from __future__ import annotations

from collections.abc import Sequence

import hpack
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.embedded.grpc.frames import ProtocolError
from serving.embedded.grpc.messages import HeadReader, MessageReader
from serving.errors import ServingError
from tests.support.http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    block,
    call,
    frame,
    message,
    request,
    window_update,
)
from tests.support.http2_server import Memory, Simulated, simulated_loop, unpacked

cuts = st.lists(st.integers(0, 3000), max_size=12)
numbers = st.sampled_from([0, 1, 3, 5, 7])
payloads = st.sampled_from([b"", b"\0" * 4, b"\0" * 8, message(b"hello"), message(b"hello")[:7], b"\x02ab\0\0"])
frames = st.one_of(
    st.builds(frame, st.integers(0, 12), st.integers(0, 63), numbers, payloads | st.binary(max_size=20)),
    st.builds(call, numbers, st.binary(max_size=20), st.sampled_from(["/t/Echo", "/t/EchoAll", "/t/None", "/t/Watch"])),
    st.builds(window_update, numbers, st.integers(0, 2**31 - 1)),
    st.sampled_from(
        [
            frame(DATA, PADDED | END_STREAM, 1, b"\x02" + message(b"padded") + b"\0\0"),
            frame(HEADERS, END_HEADERS, 1, block(request())),
            frame(HEADERS, 0, 3, block(request())[:9]) + frame(CONTINUATION, END_HEADERS, 3, block(request())[9:]),
            frame(PING, 0, 0, b"12345678"),
            frame(PRIORITY, 0, 9, bytes(5)),
            frame(RST_STREAM, 0, 1, bytes(4)),
            frame(77, 3, 5, bytes(100)),
        ]
    ),
)


def said(pieces: Sequence[bytes]) -> bytes:
    """What a connection says to pieces of bytes that come in one go."""
    server = Memory()
    for piece in pieces:
        server.send(piece)
    return server.receive()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces."""
    ends = sorted({place % len(data) for place in places} - {0})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(deadline=None, max_examples=150)
@given(sent=st.lists(frames, max_size=8).map(b"".join), places=cuts)
def test_how_the_bytes_are_cut_does_not_matter(sent: bytes, places: list[int]) -> None:
    """The same frames come out, right or wrong: the same answers, the same errors."""
    data = PREFACE + frame(SETTINGS) + sent

    assert said(cut(data, places)) == said([data])


@settings(deadline=None, max_examples=30)
@given(sent=st.lists(frames, max_size=4).map(b"".join))
def test_bytes_may_come_one_by_one(sent: bytes) -> None:
    """The finest cut of all."""
    data = PREFACE + frame(SETTINGS) + sent

    assert said([data[at : at + 1] for at in range(len(data))]) == said([data])


@settings(deadline=None, max_examples=50)
@given(sent=st.lists(frames, max_size=8).map(b"".join), places=cuts)
def test_whatever_comes_leaves_nothing(sent: bytes, places: list[int]) -> None:
    """No exception in a callback or a task, and no call once the peer is gone."""
    with simulated_loop() as loop:
        server = Simulated(loop)
        for piece in cut(PREFACE + frame(SETTINGS) + sent, places):
            server.send(piece)
        server.close()

        assert (server.under_way(), server.is_open()) == ((0, 0), False)


names = st.sampled_from(["x-a", "x-b", "grpc-timeout", "content-type", "te", "x-request-id"])
values = st.sampled_from(["", "1S", "trailers", "application/grpc", "v" * 60, "w" * 3000])
kinds = st.sampled_from([hpack.HeaderTuple, hpack.NeverIndexedHeaderTuple])
header_lists = st.builds(
    lambda kind, extra: [*(kind(*pair) for pair in request()), *extra],
    kinds,
    st.lists(st.builds(lambda kind, name, value: kind(name, value), kinds, names, values), max_size=5),
)
plain_request = [hpack.NeverIndexedHeaderTuple(*pair) for pair in request()]


@settings(deadline=None, max_examples=200)
@given(
    few=st.lists(header_lists, min_size=1, max_size=4),
    order=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, None, None, 0, 60, 4096])), max_size=30),
)
# The index of the newest entry: the second block of each list has the same bytes.
@example(
    few=[[*plain_request, hpack.HeaderTuple("x-a", value)] for value in ("1", "2")],
    order=[(0, None), (0, None), (1, None), (1, None)],
)
# An entry that drives out another as large: as many entries as before, and the second block of each has the same bytes.
@example(
    few=[[hpack.HeaderTuple("x-a", value * 3000)] for value in ("1", "2")],
    order=[(0, None), (0, None), (1, None), (1, None)],
)
def test_a_remembered_block_means_what_it_meant(
    few: list[list[hpack.HeaderTuple]], order: list[tuple[int, int | None]]
) -> None:
    """Blocks that index, evict and resize the table are read as a reader without a memory reads them."""
    encoder, reader, plain = hpack.Encoder(), HeadReader(2**16), hpack.Decoder()

    def table() -> tuple[object, ...]:
        return plain.header_table.maxsize, *plain.header_table.dynamic_entries

    for index, size in order:
        if size is not None:
            encoder.header_table_size = size
        data = encoder.encode(few[index % len(few)])
        before = table()

        assert reader.read(data).metadata == dict(plain.decode(data, raw=True))
        if table() == before:
            # Such a block is remembered: the same bytes mean the same once more.
            assert reader.read(data).metadata == dict(plain.decode(data, raw=True))


@settings(deadline=None, max_examples=500)
@given(data=st.binary(max_size=60) | st.tuples(st.just(block(request())), st.binary(max_size=9)).map(b"".join))
def test_any_header_block_is_read_or_refused(data: bytes) -> None:
    """No other exception comes out."""
    reader = HeadReader(200)
    for _ in range(2):
        try:
            reader.read(data)
        except ProtocolError:
            return


@settings(deadline=None)
@given(
    texts=st.lists(st.binary(max_size=30), max_size=6),
    tail=st.sampled_from([b"", b"\0", b"\0\0\0\0\x05abc"]),
    places=cuts,
)
def test_messages_do_not_depend_on_how_they_are_cut(texts: list[bytes], tail: bytes, places: list[int]) -> None:
    """All that are complete come out, and whether one has begun is known."""
    data = b"".join(map(message, texts)) + tail
    reader = MessageReader(b"identity", 100)

    messages = [text for piece in (cut(data, places) if data else []) for text in reader.feed(piece)]

    assert messages == texts
    assert reader.is_empty == (not tail)


@settings(deadline=None)
@given(data=st.binary(max_size=60), encoding=st.sampled_from([b"identity", b"gzip", b"deflate", b"x"]))
def test_any_bytes_are_messages_or_refused(data: bytes, encoding: bytes) -> None:
    """No other exception comes out, and no message is longer than it may be."""
    reader = MessageReader(encoding, 20)
    try:
        assert all(len(unpacked(text)) <= 20 for text in reader.feed(data))
    except ServingError:
        return
