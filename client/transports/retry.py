"""Which address a call goes to, and when it is tried again: round robin, the next address at once, a pause a round.

Only UNAVAILABLE is tried again: the request never ran, and predicting changes nothing. Pauses are jittered so that many
clients do not come back at once (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from typing import Generic, TypeVar

from client.errors import ServerError, ServerUnreachableError, server_error
from client.limits import FIRST_PAUSE, ROUNDS

_T = TypeVar("_T")


class RoundRobin(Generic[_T]):
    """Several transports to the same model, taken in turn; safe to use from several threads."""

    def __init__(self, transports: Sequence[_T]) -> None:
        self.transports = tuple(transports)
        self._turns = itertools.count()

    def attempts(self, timeout: float) -> Attempts[_T]:
        """The attempts of one call, the deadline `timeout` seconds from now."""
        return Attempts(self.transports, next(self._turns), timeout)


class Attempts(Generic[_T]):
    """The attempts of one call: `transport` and `timeout` of the next one, and `pause` after an error."""

    def __init__(self, transports: tuple[_T, ...], turn: int, timeout: float) -> None:
        self._transports = transports
        self._turn = turn
        self._failures = 0
        self._deadline = time.monotonic() + timeout

    @property
    def transport(self) -> _T:
        """Where the next attempt goes."""
        return self._transports[(self._turn + self._failures) % len(self._transports)]

    @property
    def timeout(self) -> float:
        """Seconds left of the deadline."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause(self, error: ServerError) -> float:
        """Seconds to wait before the next attempt, 0 where another address is next.

        Raises `error` when it is final: another code, every address tried three times, or the deadline too near.
        """
        self._failures += 1
        rounds, position = divmod(self._failures, len(self._transports))
        if not isinstance(error, ServerUnreachableError) or rounds == ROUNDS:
            raise error
        seconds = 0.0 if position else random.uniform(0.5, 1) * FIRST_PAUSE * 2**rounds  # noqa: S311 - not a secret
        if time.monotonic() + seconds > self._deadline:
            raise server_error("DEADLINE_EXCEEDED", f"no server in time; last: {error}") from error
        return seconds
