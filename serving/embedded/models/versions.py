"""One version of one model: its state, its users, and its servable while it is loaded."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from serving.apis.messages import ModelVersionStatus
from serving.apis.status import Code
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServingError


class State(enum.IntEnum):
    """A version's states, with the numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Closeable(Protocol):
    """What the manager needs of a servable."""

    def close(self) -> None:
        """Frees what the servable holds."""


S = TypeVar("S", bound=Closeable)


class Version(Generic[S]):
    """One version of one model: its directory, its state and, while AVAILABLE, its servable.

    Every change happens under the manager's lock. `Manager.use` counts a user, leaving a `with` block one less.
    attempts: of loading it. retry: the timer of the next one.
    """

    def __init__(self, name: str, number: int, directory: VersionDirectory, lock: threading.RLock) -> None:
        self.name = name
        self.number = number
        self.directory = directory
        self.state = State.START
        self.error: ServingError | None = None
        self.attempts = 0
        self.aspired = True
        self.retry: threading.Timer | None = None
        self._servable: S | None = None
        self._users = 0
        self._lock = lock
        self._drained: Callable[[], None] | None = None

    def __enter__(self) -> Version[S]:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def servable(self) -> S:
        """The loaded servable, for whoever entered the version."""
        assert self._servable is not None
        return self._servable

    def use(self) -> None:
        """Counts one more user: the servable stays until `release`."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Counts one user less; with the last one a version that is UNLOADING is drained."""
        with self._lock:
            self._users -= 1
            drained = self._drained if self._users == 0 else None
            if drained is not None:
                self._drained = None
        if drained is not None:
            drained()

    def put(self, servable: S) -> None:
        """Makes the version AVAILABLE."""
        self._servable = servable
        self.state = State.AVAILABLE
        self.error = None

    def take(self, drained: Callable[[], None]) -> None:
        """Makes the version UNLOADING; `drained` is called when its last user is gone."""
        self.state = State.UNLOADING
        if self._users == 0:
            drained()
        else:
            self._drained = drained

    def close(self) -> None:
        """Frees the servable, which nobody uses any more."""
        servable, self._servable = self.servable, None
        servable.close()

    def status(self) -> ModelVersionStatus:
        """The version's status as it is now: its state, and the error that brought it there."""
        status = ModelVersionStatus(version=self.number, state=int(self.state))
        status.status.error_code = int(self.error.code if self.error else Code.OK)
        status.status.error_message = str(self.error or "")
        return status
