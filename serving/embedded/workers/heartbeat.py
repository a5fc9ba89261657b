"""How a worker tells its parent, in its stderr, that it is ready and that it lives."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

# Lines that no log has.
READY = "\0ready\n"
BEAT = "\0\n"
_SECONDS = 1.0


class Heartbeat:
    """Writes BEAT once a second from a thread of its own, from now on.

    relay: does something small wherever it has to be seen that something is done: on the event loop, once it runs.
    """

    def __init__(self) -> None:
        self.relay: Callable[[Callable[[], object]], object] = lambda work: work()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        while True:
            # The event loop may have been closed a moment ago.
            with contextlib.suppress(RuntimeError):
                self.relay(_beat)
            time.sleep(_SECONDS)


def _beat() -> None:
    sys.stderr.write(BEAT)
