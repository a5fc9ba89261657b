"""The served model as the page asks for it: its versions and labels, and a connection to each version.

Labels are resolved first and versions asked by their numbers, so that an answer says over either API who gave it.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from client.aio import AsyncConnection
from client.errors import ClientUsageError, ServerError, ServerUnreachableError
from client.transports.base import Transport
from client.types import ModelSpec, VersionStatus
from client.web.live import Counts, Minute
from fashion_common.labels import CANARY, STABLE

# Several pages, and several pictures, share a look at the server.
_FRESH_SECONDS = 1.0
_KEPT_MOVES = 20
# What a server says of a label that it does not have, or whose version it has not loaded.
_NO_LABEL = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAVAILABLE")


class Move(NamedTuple):
    """A label that named version `before` names `after`; None where there is no such label. time: ISO 8601 in UTC."""

    time: str
    label: str
    before: int | None
    after: int | None


class Answering(NamedTuple):
    """A version that answers, and the labels that name it, such as "stable"; "" for the newest where there are none."""

    label: str
    version: int


class Look(NamedTuple):
    """A server at one time: the versions, the newest first, and the version of each label."""

    versions: Sequence[VersionStatus]
    labels: dict[str, int]

    @property
    def answering(self) -> list[Answering]:
        """Who answers a picture: `stable` and beside it `canary`, else the newest version that is AVAILABLE."""
        by_version: dict[int, list[str]] = {}
        for label, version in self.labels.items():
            by_version.setdefault(version, []).append(label)
        available = [status.version for status in self.versions if status.state == "AVAILABLE"]
        if not by_version and available:
            by_version[max(available)] = []
        return [Answering(", ".join(labels), version) for version, labels in by_version.items()]


class Served:
    """One model on its servers, for one event loop; `close` ends the connections.

    moves: of labels, seen since the page runs, the newest first. minute: what the server counts, None without metrics.
    uncounted: why there are none.
    """

    def __init__(self, transports: Sequence[Transport], model_name: str, timeout: float) -> None:
        self.model_name = model_name
        self.moves: collections.deque[Move] = collections.deque(maxlen=_KEPT_MOVES)
        self.minute: Minute | None = None
        self.uncounted = ""
        self._transports = transports
        self._timeout = timeout
        self._newest = self._connection()
        self._versions: dict[int, AsyncConnection] = {}
        self._look: Look | None = None
        self._looked = 0.0
        self._looking = asyncio.Lock()

    async def look(self) -> Look:
        """The versions and labels as they were a second ago at most. Raises ServerError."""
        async with self._looking:
            if self._look is None or time.monotonic() - self._looked > _FRESH_SECONDS:
                try:
                    versions, stable, canary, metrics = await asyncio.gather(
                        self._newest.status(), self._version_of(STABLE), self._version_of(CANARY), self._metrics()
                    )
                except ServerError as error:
                    self.forget()
                    raise error.with_hint(await self._hint(error)) from error
                self.minute = (self.minute or Minute()) if metrics else None
                if self.minute is not None:
                    self.minute.add(Counts.of(metrics, self.model_name, time.monotonic()))
                named = {STABLE: stable, CANARY: canary}
                labels = {label: version for label, version in named.items() if version is not None}
                self._look = self._with_moves(Look(versions, labels))
                self._looked = time.monotonic()
            return self._look

    def version(self, number: int) -> AsyncConnection:
        """The connection to a version; its metadata is read once."""
        return self._versions.setdefault(number, self._connection(version=number))

    def forget(self) -> None:
        """Whatever is known of the server: the next one at its address may serve something else."""
        self._look = None
        self._versions.clear()

    async def close(self) -> None:
        """Ends the connections."""
        await self._newest.close()

    def _model(self, version: int | None = None, label: str | None = None) -> ModelSpec:
        return ModelSpec(self.model_name, version, label)

    def _connection(self, version: int | None = None, label: str | None = None) -> AsyncConnection:
        return AsyncConnection(self._transports, self._model(version, label), timeout=self._timeout)

    async def _version_of(self, label: str) -> int | None:
        try:
            return (await self._connection(label=label).metadata()).version
        except ServerError as error:
            if error.code in _NO_LABEL:
                return None
            raise

    async def _metrics(self) -> str:
        """Of the first server that is asked over REST, since each counts for itself; "" where there are none."""
        for transport in self._transports:
            connection = AsyncConnection([transport], self._model(), timeout=self._timeout)
            try:
                text = await connection.metrics()
            except ClientUsageError:
                continue
            except ServerError as error:
                self.uncounted = f"The server has no metrics ({error.code}): --monitoring_config_file turns them on."
                return ""
            self.uncounted = ""
            return text
        self.uncounted = (
            "Requests and latency are in the metrics, which are on the REST port: --server http://HOST:8501."
        )
        return ""

    def _with_moves(self, look: Look) -> Look:
        before = self._look.labels if self._look else look.labels
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        for label in (STABLE, CANARY):
            if before.get(label) != look.labels.get(label):
                self.moves.appendleft(Move(now, label, before.get(label), look.labels.get(label)))
        return look

    async def _hint(self, error: ServerError) -> str:
        return await self._newest.diagnosis() if isinstance(error, ServerUnreachableError) else ""
