"""The poll of --model_config_file: a file that has changed is taken over while the server runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from serving.errors import ServerConfigError, ServingError

log = logging.getLogger(__name__)


class ConfigWatch:
    """Reads a file every `seconds`, and calls `reload` when it has changed. Does nothing without a file, or with 0."""

    def __init__(self, file: str, seconds: float, reload: Callable[[], None]) -> None:
        self._file = file
        self._seconds = seconds
        self._reload = reload
        self._stop = threading.Event()
        self._last = self._text()

    def start(self) -> None:
        """Reads in a thread from now on."""
        if self._file and self._seconds > 0:
            threading.Thread(target=self._run, name="config", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread at its next turn."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            text = self._text()
            if text == self._last:
                continue
            self._last = text
            try:
                self._reload()
            except (ServingError, ServerConfigError) as error:
                log.error("%s was not taken over: %s", self._file, error)  # noqa: TRY400 - no fault of ours

    def _text(self) -> bytes:
        try:
            return Path(self._file).read_bytes() if self._file else b""
        except OSError:
            return b""
