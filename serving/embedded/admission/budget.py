"""One budget of bytes for the requests and answers under way on both ports."""

from __future__ import annotations

from collections.abc import Callable

from serving.errors import DeadlineExceeded, ResourceExhausted, ServingError

# What waits for peers may take this much; the rest is for requests that are there and answers that are made.
_SHARE_OF_PEERS = 0.75
# What waits for peers, and a large request or answer, may fill this much of the whole: small ones go on beside them.
_SHARE_OF_LARGE = 0.9
_SMALL_BYTES = 2**16
# What can be gone without is taken up to this much of the whole.
_SHARE_OF_SPARE = 0.5
# A peer that has been silent for so long gives way to others when the budget is spent.
_STALLED_SECONDS = 0.25
# Each takes some microseconds of the event loop. Whoever needs more than these have is refused, and tries again.
_GIVEN_UP_AT_ONCE = 2000


class Holding:
    """Bytes that wait for a peer: of a request that arrives, or of an answer that is read.

    give_up: called when the peer is silent and others need the bytes, which are back in the budget then.
    """

    __slots__ = ("give_up", "size")

    def __init__(self, give_up: Callable[[ServingError], None]) -> None:
        self.give_up = give_up
        self.size = 0


class Budget:
    """Counts the bytes of requests and answers. Lives on the event loop.

    `charge` and `refund` are for what the server works on; a `Holding` is for what waits for a peer to send or to read.
    limit: in bytes; 0 = no limit. clock: in seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.used = 0
        self._held = 0
        self._clock = clock
        # The one whose peer has been silent for longest first.
        self._holdings: dict[Holding, float] = {}

    def charge(self, size: int) -> None:
        """Takes bytes. Raises ResourceExhausted when there are too few, stalled holdings given up."""
        if self.limit:
            limit = self.limit if size <= _SMALL_BYTES else int(self.limit * _SHARE_OF_LARGE)
            if self.used + size > limit:
                self._make_room(limit - size, 0)
        self.used += size

    def take(self, size: int) -> None:
        """Takes bytes, whether or not there are as many."""
        self.used += size

    def take_spare(self, size: int) -> bool:
        """Takes bytes for what can be gone without, if no more than half of the limit is used then; whether it did."""
        if self.limit and self.used + size > self.limit * _SHARE_OF_SPARE:
            return False
        self.used += size
        return True

    def refund(self, size: int) -> None:
        """Gives bytes back."""
        self.used -= size

    def hold(self, holding: Holding, size: int) -> None:
        """The peer has moved: `size` more bytes wait for it, or fewer when negative.

        Raises ResourceExhausted when there are too few; the holding is to be released then.
        """
        self._holdings.pop(holding, None)
        if self.limit and size > 0:
            limit, held = int(self.limit * _SHARE_OF_LARGE), int(self.limit * _SHARE_OF_PEERS)
            if self.used + size > limit or self._held + size > held:
                self._make_room(limit - size, held - size)
        self._holdings[holding] = self._clock()
        self.used += size
        self._held += size
        holding.size += size

    def release(self, holding: Holding) -> None:
        """Nothing waits for the peer any more."""
        self._holdings.pop(holding, None)
        self.used -= holding.size
        self._held -= holding.size
        holding.size = 0

    def end(self, holding: Holding) -> None:
        """The peer is gone. Refers to nobody any more: connections that are cycles wait for the garbage collector."""
        self.release(holding)
        holding.give_up = _nobody

    def end_stalled(self, seconds: float, most: int = 100) -> bool:
        """Gives up holdings whose peers have been silent for so long, as many as `most`; whether there are more."""
        latest = self._clock() - seconds
        error = DeadlineExceeded(f"Nothing was sent, or read, for --stall_timeout_seconds={seconds:g}")
        for _ in range(most):
            holding, since = next(iter(self._holdings.items()), (None, 0.0))
            if holding is None or since > latest:
                return False
            self.release(holding)
            holding.give_up(error)
        return True

    def _make_room(self, used: int, held: int) -> None:
        """Gives up stalled holdings until no more than this is used and, of it, held; not too many at a time."""
        latest, left = self._clock() - _STALLED_SECONDS, _GIVEN_UP_AT_ONCE
        while self.used > used or (held and self._held > held):
            holding, since = next(iter(self._holdings.items()), (None, 0.0))
            left -= 1
            if holding is None or since > latest or left < 0:
                raise ResourceExhausted(
                    f"{self.used} bytes of requests and answers are under way, and --max_bytes_in_flight is "
                    f"{self.limit}: try again, or send less at a time"
                )
            self.release(holding)
            holding.give_up(ResourceExhausted("The message came to a halt, and its place was needed for others"))


def _nobody(_: ServingError) -> None:
    """Whom a holding calls that has ended."""
