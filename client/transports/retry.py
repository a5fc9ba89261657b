"""When to ask again, and whom: round robin over the addresses, on to the next one that is up, a pause after each round.

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

_T = TypeVar("_T")
_ROUNDS = 3
_FIRST_PAUSE = 0.05


class RoundRobin(Generic[_T]):
    """Several transports to the same model, taken in turn; safe to use from several threads."""

    def __init__(self, transports: Sequence[_T]) -> None:
        self.transports = tuple(transports)
        self._turns = itertools.count()

    def attempts(self, timeout: float) -> Attempts[_T]:
        """The attempts of one call, the deadline `timeout` seconds from now."""
        return Attempts(self.transports, next(self._turns), timeout)


class Attempts(Generic[_T]):
    """The attempts of one call: `transport` and `timeout` of the next one, and `pause` after it failed."""

    def __init__(self, transports: tuple[_T, ...], turn: int, timeout: float) -> None:
        self._transports = transports
        self._turn = turn
        self._tried = 0
        self._deadline = time.monotonic() + timeout

    @property
    def transport(self) -> _T:
        """Whom to ask now."""
        return self._transports[(self._turn + self._tried) % len(self._transports)]

    @property
    def timeout(self) -> float:
        """Seconds left of the deadline."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause(self, error: ServerError) -> float:
        """Seconds to wait before the next attempt, 0 where another address is next.

        Raises `error` when it is final: another code, every address tried three times, or the deadline too near.
        """
        self._tried += 1
        rounds, within = divmod(self._tried, len(self._transports))
        if not isinstance(error, ServerUnreachableError) or rounds == _ROUNDS:
            raise error
        seconds = 0.0 if within else random.uniform(0.5, 1) * _FIRST_PAUSE * 2**rounds  # noqa: S311 - not a secret
        if time.monotonic() + seconds > self._deadline:
            raise server_error("DEADLINE_EXCEEDED", f"no server in time; last: {error}") from error
        return seconds
