"""The connections of both ports: how many there may be, and which one goes when there are too many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

# Of what was turned away, the log says so much at most.
_LOG_SECONDS = 10.0


class Seat:
    """One connection's place. close: called when it has to go."""

    __slots__ = ("address", "close")

    def __init__(self, address: str, close: Callable[[], object]) -> None:
        self.address = address
        self.close = close


class Connections:
    """Who is connected. Lives on the event loop.

    When there are too many, the one that has been idle for longest goes, first of those that have never asked anything;
    when all are busy, the new one is turned away. total, each: how many there may be, of all peers and of each address;
    0 = no limit. clock: in seconds.
    """

    def __init__(self, total: int, each: int, clock: Callable[[], float]) -> None:
        self.total = total
        self._each = each
        self._clock = clock
        self._seats: set[Seat] = set()
        self._addresses: Counter[str] = Counter()
        # Those that have never asked anything, and those that are idle: the one that has been for longest first.
        self._strangers: dict[Seat, None] = {}
        self._idle: dict[Seat, None] = {}
        self._turned_away = 0
        self._logged = -_LOG_SECONDS

    def __len__(self) -> int:
        return len(self._seats)

    def enter(self, address: str, close: Callable[[], object]) -> Seat | None:
        """A seat for a new connection, or None when it is to be closed. close: called when it has to go."""
        if self._is_at_limit(address):
            self._make_room(address)
        elif self._is_full():
            self._make_room(None)
        if self._is_at_limit(address) or self._is_full():
            self._note(address)
            return None
        seat = Seat(address, close)
        self._seats.add(seat)
        self._addresses[address] += 1
        self._strangers[seat] = None
        return seat

    def work(self, seat: Seat) -> None:
        """A whole request is there: its connection stays until it is answered."""
        self._strangers.pop(seat, None)
        self._idle.pop(seat, None)

    def rest(self, seat: Seat) -> None:
        """Nothing is under way on a connection any more."""
        if seat in self._seats:
            self._idle[seat] = None

    def leave(self, seat: Seat) -> None:
        """A connection is closed, or has to be."""
        if seat in self._seats:
            self.work(seat)
            self._seats.remove(seat)
            self._addresses[seat.address] -= 1
            if not self._addresses[seat.address]:
                del self._addresses[seat.address]

    def _is_at_limit(self, address: str) -> bool:
        return 0 < self._each <= self._addresses[address]

    def _is_full(self) -> bool:
        return 0 < self.total <= len(self._seats)

    def _make_room(self, address: str | None) -> None:
        for seats in (self._strangers, self._idle):
            seat = next((seat for seat in seats if address in (None, seat.address)), None)
            if seat is not None:
                self._note(seat.address)
                self.leave(seat)
                seat.close()
                return

    def _note(self, address: str) -> None:
        """Says how many connections had to go, but not for each."""
        self._turned_away += 1
        now = self._clock()
        if now - self._logged >= _LOG_SECONDS:
            log.warning(
                "%d connections turned away, the last of %s: %d are open (--max_connections=%d, "
                "--max_connections_per_address=%d)",
                self._turned_away, address, len(self), self.total, self._each,
            )  # fmt: skip
            self._turned_away, self._logged = 0, now
