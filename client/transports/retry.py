"""Which server a call goes to, and when it is tried again: round robin, the next server at once, a pause a round.

Only a server's absence is tried elsewhere: UNAVAILABLE, and no answer in time; predicting changes nothing, so a request
may run twice. The deadline is split: each server but the last gets its share of what is left, so that one that hangs
is passed over within the deadline. Hedging (a second request beside a slow one, https://grpc.io/docs/guides/request-hedging/)
would answer sooner, but doubles the load just when servers are slow. A server that let its share pass is asked last for
a while, so that it costs one call its share, and not every second one.
Pauses are jittered so that many clients do not come back at once
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence

from client.errors import DeadlineExceededError, ServerError, ServerUnreachableError, server_error
from client.limits import FIRST_PAUSE, HUNG_SECONDS, ROUNDS
from client.transports.base import Transport


class RoundRobin:
    """Several transports to the same model, taken in turn; safe to use from several threads.

    retry: whether a call that failed goes to the next one; without, each call is sent once.
    """

    def __init__(self, transports: Sequence[Transport], *, retry: bool = True) -> None:
        self.transports = tuple(transports)
        self.rounds = ROUNDS if retry else 1
        self._retry = retry
        # Until when, by time.monotonic, a transport is asked last.
        self.hung_until = [0.0] * len(transports)
        self._turns = itertools.count()

    def attempts(self, timeout: float) -> Attempts:
        """The attempts of one call, the deadline `timeout` seconds from now."""
        size = len(self.transports)
        turn, now = next(self._turns), time.monotonic()
        order = [(turn + offset) % size for offset in range(size if self._retry else 1)]
        return Attempts(self, sorted(order, key=lambda index: self.hung_until[index] > now), now + timeout)


class Attempts:
    """The attempts of one call: `transport` and `timeout` of the next one, and `pause` after an error."""

    def __init__(self, round_robin: RoundRobin, order: list[int], deadline: float) -> None:
        self._round_robin = round_robin
        self._order = order
        self._failures = 0
        self._deadline = deadline

    @property
    def transport(self) -> Transport:
        """Where the next attempt goes."""
        return self._round_robin.transports[self._order[self._failures % len(self._order)]]

    @property
    def timeout(self) -> float:
        """Seconds of the next attempt: what is left of the deadline, shared by the servers not yet asked."""
        left = max(self._deadline - time.monotonic(), 0.001)
        return left / max(len(self._order) - self._failures, 1)

    def pause(self, error: ServerError) -> float:
        """Seconds to wait before the next attempt, 0 where another server is next.

        Raises `error` when it is final: another code, every server tried three times, or the deadline too near.
        """
        index = self._order[self._failures % len(self._order)]
        self._failures += 1
        rounds, position = divmod(self._failures, len(self._order))
        if isinstance(error, DeadlineExceededError) and rounds == 0:
            self._round_robin.hung_until[index] = time.monotonic() + HUNG_SECONDS
            return 0.0
        if not isinstance(error, ServerUnreachableError) or rounds == self._round_robin.rounds:
            raise error
        seconds = 0.0 if position else random.uniform(0.5, 1) * FIRST_PAUSE * 2**rounds  # noqa: S311 - not a secret
        if time.monotonic() + seconds > self._deadline:
            raise server_error("DEADLINE_EXCEEDED", f"no server in time; last: {error}") from error
        return seconds
