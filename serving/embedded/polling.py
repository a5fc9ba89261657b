"""What the server looks at from time to time: the models' base paths, and --model_config_file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from serving.embedded.event_log import CONFIGURATION_REFUSED, Event, log_event
from serving.errors import ServerConfigError, ServingError

log = logging.getLogger(__name__)


class Poller:
    """Calls `poll` every `seconds` in a thread of its own, from `start` to `stop`; never when they are 0.

    poll: gives the seconds after which it wants to be called again, or None when there is no hurry.
    """

    def __init__(self, seconds: float, poll: Callable[[], float | None]) -> None:
        self._seconds = seconds
        self._poll = poll
        self._stop = threading.Event()

    def start(self) -> None:
        """Polls from now on, first when the interval is over."""
        if self._seconds > 0:
            threading.Thread(target=self._run, name="poll", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread; a poll under way is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        seconds = self._seconds
        while not self._stop.wait(seconds):
            try:
                seconds = min(self._seconds, self._poll() or self._seconds)
            except Exception:
                log.exception("unforeseen error in a poll")


class ConfigWatch:
    """Calls `reload` when a file has changed since the last poll; one that cannot be read counts as empty.

    refused: the event when what it says cannot be taken over.
    """

    def __init__(self, file: str, reload: Callable[[], None], refused: Event = CONFIGURATION_REFUSED) -> None:
        self._file = file
        self._refused = refused
        self._reload = reload
        self._last = self._text()

    def poll(self) -> None:
        """One look at the file. What cannot be taken over is logged, and changes nothing."""
        text = self._text()
        if text == self._last:
            return
        self._last = text
        try:
            self._reload()
        except (ServerConfigError, ServingError) as error:
            reason = error.log_text if isinstance(error, ServingError) else str(error)
            log_event(self._refused, file=self._file, error=reason)

    def _text(self) -> bytes:
        try:
            return Path(self._file).read_bytes()
        except OSError:
            return b""
