"""Which versions are loaded, which should be, and which are in use.

TF Serving's AspiredVersionsManager with its availability-preserving policy: a new version is loaded first, then takes
over; requests in flight finish on the old one; then it is unloaded. Knows no runtime: it is given a load function.
https://www.tensorflow.org/tfx/serving/architecture
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Generic

from serving.apis.messages import ModelVersionStatus
from serving.embedded.event_log import (
    MODEL_UNAVAILABLE,
    VERSION_LEFT,
    VERSION_LOADED,
    VERSION_REFUSED,
    VERSION_UNLOADED,
    log_event,
)
from serving.embedded.models.source import Aspired
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.threads import Places
from serving.embedded.models.versions import S, State, Version
from serving.errors import DeadlineExceeded, Internal, NotFound, ServingError, StillLoading, Unavailable, quoted

log = logging.getLogger(__name__)

# Of the versions of a model that have ended and are not asked for any more, the status has the newest.
_MAX_ENDED = 100


class _Model(Generic[S]):
    """The versions of one model that were ever aspired to, and those of them that requests may use."""

    def __init__(self) -> None:
        self.versions: dict[int, Version[S]] = {}
        self.error: ServingError | None = None
        self.available: dict[int, Version[S]] = {}
        self.latest: Version[S] | None = None

    def newest_first(self) -> list[Version[S]]:
        return [version for _, version in sorted(self.versions.items(), reverse=True)]

    def refresh(self) -> None:
        ended = [
            number for number, version in self.versions.items() if version.state == State.END and not version.aspired
        ]
        for number in sorted(ended)[:-_MAX_ENDED]:
            del self.versions[number]
        self.available = {n: v for n, v in self.versions.items() if v.state == State.AVAILABLE}
        self.latest = self.available[max(self.available)] if self.available else None


class Manager(Generic[S]):
    """Loads and unloads versions as they are aspired to; `use` gives a loaded one to a request.

    load_timeout_seconds: a load that takes longer has failed, and the next one takes its place; 0 = no limit.
    max_num_load_retries, load_retry_interval_seconds: how often, and how long apart, a failed load is tried again.
    """

    def __init__(
        self,
        load: Callable[[str, int, VersionDirectory], S],
        *,
        num_load_threads: int = 1,
        num_unload_threads: int = 1,
        load_timeout_seconds: float = 600.0,
        max_num_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
    ) -> None:
        self._load = load
        self._load_timeout_seconds = load_timeout_seconds
        self._max_num_load_retries = max_num_load_retries
        self._load_retry_interval_seconds = load_retry_interval_seconds
        self._models: dict[str, _Model[S]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._loaders = Places(max(1, num_load_threads), load_timeout_seconds, "load")
        self._unloaders = Places(max(1, num_unload_threads), load_timeout_seconds, "unload")
        self._stopped = False

    def set_aspired(self, name: str, aspired: Aspired) -> None:
        """Sets which versions of a model there should be; loads and unloads follow in threads of their own."""
        with self._lock:
            if self._stopped:
                return
            model = self._models.setdefault(name, _Model())
            error = aspired.error
            if error is not None and not isinstance(error, StillLoading) and str(error) != str(model.error):
                log_event(MODEL_UNAVAILABLE, model=name, error=error.log_text)
            model.error = aspired.error
            if aspired.versions is not None:
                self._aspire(name, model, aspired.versions)
            self._reconcile(name)
            self._changed.notify_all()

    def use(self, name: str, version: int | None = None) -> Version[S]:
        """The newest available version, or the given one, counted as in use: call its `release` at the end.

        Raises NotFound, or Unavailable when the model is configured but could not be loaded.
        """
        with self._lock:
            model = self._models.get(name)
            choice = None
            if model is not None:
                choice = model.latest if version is None else model.available.get(version)
            if choice is None:
                raise self._missing(name, version, model)
            choice.use()
            return choice

    def statuses(self, name: str) -> list[ModelVersionStatus]:
        """The status of every version of a model that was ever aspired to, newest first."""
        with self._lock:
            model = self._models.get(name)
            return [version.status() for version in model.newest_first()] if model else []

    def servables(self, name: str) -> dict[int, S]:
        """What is loaded of a model, by version, to be looked at only: nothing keeps it loaded."""
        with self._lock:
            model = self._models.get(name)
            return {number: version.servable for number, version in model.available.items()} if model else {}

    def error(self, name: str) -> ServingError | None:
        """Why a model has no version to serve, or None when it has one."""
        with self._lock:
            model = self._models.get(name)
            if model is None or model.latest is not None:
                return None
            versions = model.newest_first()
            error = next((version.error for version in versions if version.error), model.error)
            aspired = [version.number for version in versions if version.aspired]
            if error is None and aspired:
                return StillLoading(f"version {aspired[0]} of {name} is being loaded")
            return error

    def failed(self, name: str) -> Collection[int]:
        """The versions of a model that could not be loaded."""
        with self._lock:
            model = self._models.get(name)
            versions = model.versions.values() if model is not None else ()
            return {version.number for version in versions if version.state == State.END and version.error is not None}

    def has_version(self, name: str, version: int) -> bool:
        """Whether a version is AVAILABLE."""
        with self._lock:
            model = self._models.get(name)
            return model is not None and version in model.available

    def wait_until_settled(self, names: Iterable[str], timeout: float | None = None) -> bool:
        """Waits until every aspired version is AVAILABLE or has failed for now; whether that was within the timeout.

        timeout: in seconds, None for no end.
        """
        models = list(names)
        with self._lock:
            return self._changed.wait_for(lambda: self._stopped or all(map(self._settled, models)), timeout)

    def stop(self, seconds: float = 10.0) -> None:
        """Unloads everything once its users are gone; nothing is loaded any more.

        What is still in use after so many seconds, or still being loaded, is left.
        """
        with self._lock:
            self._stopped = True
            self._loaders.clear()
            versions = [version for model in self._models.values() for version in model.versions.values()]
            for version in versions:
                version.aspired = False
                if version.retry is not None:
                    version.retry.cancel()
                if version.state == State.AVAILABLE:
                    self._unload(version)
            for model in self._models.values():
                model.refresh()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(v.state == State.UNLOADING for v in versions), seconds)
            for version in versions:
                if version.state in (State.LOADING, State.UNLOADING):
                    log_event(VERSION_LEFT, model=version.name, version=version.number, state=version.state.name)

    def _settled(self, name: str) -> bool:
        model = self._models.get(name)
        if model is None or isinstance(model.error, StillLoading):
            return False
        aspired = [version for version in model.versions.values() if version.aspired]
        if not aspired:
            return model.error is not None
        return all(version.state == State.AVAILABLE or version.error is not None for version in aspired)

    def _missing(self, name: str, version: int | None, model: _Model[S] | None) -> ServingError:
        request = f"Latest({quoted(name)})" if version is None else f"Specific({quoted(name)}, {version})"
        text = f"Servable not found for request: {request}"
        error = self.error(name) if model is not None and (model.error is not None or model.versions) else None
        return NotFound(text) if error is None else Unavailable(f"{text}: {error}")

    def _aspire(self, name: str, model: _Model[S], versions: Mapping[int, VersionDirectory]) -> None:
        for known in model.versions.values():
            known.aspired = known.number in versions
        for number, directory in versions.items():
            version = model.versions.get(number)
            # One that failed is loaded anew once its files have changed.
            if version is None or (
                version.state == State.END
                and (version.error is None or directory.fingerprint not in (None, version.directory.fingerprint))
            ):
                model.versions[number] = Version(name, number, directory, self._lock)

    def _reconcile(self, name: str) -> None:
        model = self._models[name]
        for version in model.versions.values():
            if version.state == State.START and version.aspired and version.attempts == 0:
                self._start_load(version)
        self._unload_leftovers(model)
        model.refresh()

    def _unload_leftovers(self, model: _Model[S]) -> None:
        """Unloads what is not aspired to; the newest goes on serving until an aspired version is AVAILABLE."""
        aspired = [version for version in model.versions.values() if version.aspired]
        available = [version for version in model.newest_first() if version.state == State.AVAILABLE]
        if aspired and not any(version.aspired for version in available):
            available = available[1:]
        for version in reversed(available):
            if not version.aspired:
                self._unload(version)

    def _start_load(self, version: Version[S]) -> None:
        version.state = State.LOADING
        version.attempts += 1
        self._loaders.submit(partial(self._load_version, version), partial(self._write_off, version))

    def _write_off(self, version: Version[S]) -> None:
        """Fails a load that has taken too long."""
        with self._lock:
            if version.state == State.LOADING:
                self._fail(
                    version,
                    DeadlineExceeded(
                        f"Loading had not ended after {self._load_timeout_seconds:g} seconds (--load_timeout_seconds): "
                        "its files may lie on a disk that does not answer"
                    ),
                )
                self._reconcile(version.name)
                self._changed.notify_all()

    def _load_version(self, version: Version[S]) -> None:
        servable: S | None = None
        error: ServingError | None = None
        begin = time.monotonic()
        try:
            if version.aspired and not self._stopped:
                servable = self._load(version.name, version.number, version.directory)
        except ServingError as cause:
            error = ServingError(version.directory.public(str(cause)), cause.code, log_text=str(cause))
        except Exception as cause:
            log.exception("loading %s version %d", version.name, version.number)
            text = f"{type(cause).__name__}: {cause}"
            error = Internal(version.directory.public(text), log_text=text)
        with self._lock:
            late = version.state != State.LOADING
            if late:
                # What had hung hangs no more.
                self._retry_later(version)
            elif servable is not None:
                version.put(servable)
                seconds = round(time.monotonic() - begin, 3)
                log_event(VERSION_LOADED, model=version.name, version=version.number, seconds=seconds)
            elif error is not None:
                self._fail(version, error)
                self._retry_later(version)
            else:
                version.state = State.END
            if self._stopped and version.state == State.AVAILABLE:
                version.aspired = False
            self._reconcile(version.name)
            self._changed.notify_all()
        if late and servable is not None:
            servable.close()

    def _fail(self, version: Version[S], error: ServingError) -> None:
        version.state = State.END
        version.error = error
        log_event(
            VERSION_REFUSED,
            model=version.name,
            version=version.number,
            code=error.code.name,
            attempt=version.attempts,
            error=error.log_text,
        )

    def _retry_later(self, version: Version[S]) -> None:
        if self._stopped or not version.aspired or version.attempts > self._max_num_load_retries:
            return
        version.retry = threading.Timer(self._load_retry_interval_seconds, self._retry, (version,))
        version.retry.daemon = True
        version.retry.start()

    def _retry(self, version: Version[S]) -> None:
        with self._lock:
            model = self._models[version.name]
            if self._stopped or not version.aspired or model.versions.get(version.number) is not version:
                return
            self._start_load(version)

    def _unload(self, version: Version[S]) -> None:
        unload = partial(self._unload_version, version, time.monotonic())
        version.take(lambda: self._unloaders.submit(unload, lambda: None))

    def _unload_version(self, version: Version[S], begin: float) -> None:
        try:
            version.close()
        except Exception:
            log.exception("unloading %s version %d", version.name, version.number)
        with self._lock:
            version.state = State.END
            seconds = round(time.monotonic() - begin, 3)
            log_event(VERSION_UNLOADED, model=version.name, version=version.number, seconds=seconds)
            self._models[version.name].refresh()
            self._changed.notify_all()
