"""Bodies that were sent compressed (RFC 1952, https://www.rfc-editor.org/rfc/rfc1952)."""

from __future__ import annotations

import zlib

from serving.errors import InvalidArgument

_INPUT_BYTES = 2**20
# Each is another beginning, however little it holds.
_MAX_MEMBERS = 1000
_WBITS = zlib.MAX_WBITS | 16


class Gzip:
    """A gzip file that is unpacked in pieces."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self._position = 0
        # What was taken of the data and is not unpacked yet.
        self._rest = b""
        self._member = zlib.decompressobj(wbits=_WBITS)
        self._members = 1

    @property
    def is_done(self) -> bool:
        """Whether the last member has ended, and nothing follows it."""
        return self._member.eof and not self._rest and self._position >= len(self._data)

    def unpack(self, size: int) -> bytes:
        """The next bytes: as many as `size`, or fewer at the end. Raises InvalidArgument for what is no whole gzip."""
        pieces = []
        while size and not self.is_done:
            pieces.append(self._piece(size))
            size -= len(pieces[-1])
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if self._member.eof:
            self._begin_member()
        member = self._member
        data = self._rest or self._take()
        if not data:
            raise _error("it ends before its gzip does")
        try:
            piece = member.decompress(data, size)
        except zlib.error as error:
            raise _error(str(error)) from error
        self._rest = member.unused_data if member.eof else member.unconsumed_tail
        return piece

    def _begin_member(self) -> None:
        """Section 2.2: members may follow each other."""
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _error(f"it has more than {_MAX_MEMBERS} members")
        self._member = zlib.decompressobj(wbits=_WBITS)

    def _take(self) -> bytes:
        data = bytes(self._data[self._position : self._position + _INPUT_BYTES])
        self._position += len(data)
        return data


def _error(reason: str) -> InvalidArgument:
    return InvalidArgument(f"Failed to gunzip the request body: {reason}")
