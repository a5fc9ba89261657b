"""`python -m serving.launch.follower DIRECTORY`: follows for the detached server that is recorded in the directory."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from fashion_common.running import RECORD_FILE, read_record
from serving.launch.detached import is_alive
from serving.launch.follow import POLL_SECONDS, repeat
from serving.launch.offer import Offer
from serving.launch.remote import detached_puller, following_source

# A container's engine is a process to ask.
_ALIVE_SECONDS = 10.0


def main(directory: Path) -> None:
    """Follows until the server has ended, or its record is another's."""
    server = read_record(directory)
    identity = _identity(directory)
    if server is None or identity is None:
        return
    last_look = time.monotonic()

    def goes_on() -> bool:
        nonlocal last_look
        time.sleep(POLL_SECONDS)
        if _identity(directory) != identity:
            return False
        if time.monotonic() - last_look > _ALIVE_SECONDS:
            last_look = time.monotonic()
            return is_alive(directory)
        return True

    with following_source(detached_puller(server.model_base_path, server.public_keys)):
        repeat(server, Offer(server.public_keys), goes_on)


def _identity(directory: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        record = (directory / RECORD_FILE).stat()
        return record.st_ino, record.st_mtime_ns
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
