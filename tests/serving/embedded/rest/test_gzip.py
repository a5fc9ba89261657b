"""Bodies that were sent compressed: whole ones, several members, and what is no gzip."""

from __future__ import annotations

import gzip
import zlib

import pytest

from serving.embedded.rest.gzip import Gzip
from serving.errors import InvalidArgument

DATA = bytes(range(256)) * 9000


def unpacked(data: bytes, size: int = 2**20) -> bytes:
    """All of it, so many bytes at a time."""
    source, result = Gzip(data), b""
    while not source.is_done:
        piece = source.unpack(size)
        assert len(piece) <= size
        result += piece
    return result


@pytest.mark.parametrize("size", [1000, 2**20, 2**24])
def test_a_body_is_unpacked_in_pieces(size: int) -> None:
    """None is larger than was asked for."""
    assert unpacked(gzip.compress(DATA), size) == DATA


def test_members_follow_each_other() -> None:
    """As RFC 1952 has it, section 2.2; empty ones too, but not without end."""
    assert unpacked(gzip.compress(b"ab") + gzip.compress(b"") + gzip.compress(b"cd")) == b"abcd"
    assert unpacked(gzip.compress(b"a") + gzip.compress(b"bcdefgh"), 3) == b"abcdefgh"
    assert unpacked(gzip.compress(b"") * 999 + gzip.compress(b"last")) == b"last"
    with pytest.raises(InvalidArgument, match="more than 1000 members"):
        unpacked(gzip.compress(b"") * 1001)


@pytest.mark.parametrize("cut", [1, 9, 12, 40, -9, -1])
def test_a_body_that_is_cut_short_is_refused(cut: int) -> None:
    """Wherever that is: its checksum and its length are checked."""
    with pytest.raises(InvalidArgument, match="it ends before its gzip does"):
        unpacked(gzip.compress(bytes(range(200)))[:cut])


@pytest.mark.parametrize(
    "data",
    [b"not gzip", zlib.compress(b"zlib"), gzip.compress(b"ab") + b"rest", gzip.compress(b"abc")[:-8] + bytes(8)],
    ids=["no gzip", "zlib", "something after it", "a wrong checksum"],
)
def test_what_is_no_gzip_is_refused(data: bytes) -> None:
    """With zlib's reason."""
    with pytest.raises(InvalidArgument, match="Failed to gunzip the request body"):
        unpacked(data)
