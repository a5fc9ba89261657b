"""A running server's models.config follows the labels and the versions of its model base path.

In the foreground a thread of `fashion serve` sees to it; for a detached server a process of its own does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fashion_common.errors import FashionError
from fashion_common.files import write_whole
from fashion_common.installation import MODELS_FILE, module_command
from fashion_common.labels import read_labels
from fashion_common.layout import version_directories
from fashion_common.running import RunningServer, forget, recorded
from serving.launch.access import follow_certificates
from serving.launch.backends import ServeOptions
from serving.launch.models_config import derived
from serving.launch.offer import Offer
from serving.launch.remote import ADDRESS_VARIABLE
from serving.launch.session import start_session

POLL_SECONDS = 1.0


def running_server(options: ServeOptions) -> RunningServer:
    """The record of a server with these options."""
    base_path = options.model_base_path.absolute()
    return RunningServer(
        model_base_path=str(base_path),
        served_base_path=options.container_base_path if options.backend == "container" else str(base_path),
        model_name=options.model_name,
        url=options.status_url,
        config_dir=str(options.config_dir),
        tls_files=tuple(options.tls_files),
        public_keys=tuple(str(key.absolute()) for key in options.public_keys),
    )


def follow(server: RunningServer, offer: Offer) -> None:
    """Writes the server's models.config anew when it differs. Raises OSError, FashionError."""
    base_path = Path(server.model_base_path)
    path = Path(server.config_dir) / MODELS_FILE
    text = path.read_text(encoding="utf-8")
    versions = offer.versions(version_directories(base_path))
    labels = read_labels(base_path).named(versions)
    if not versions:
        # The server says that there are none; an empty policy would be refused.
        return

    def config(available: set[int]) -> str:
        return derived(
            text,
            name=server.model_name,
            base_path=server.served_base_path,
            labels=labels,
            versions=versions,
            available=available,
        )

    # Only a label that has to move needs the server's word.
    wanted = config(set(versions))
    if wanted != text:
        wanted = config(server.available())
    if wanted != text:
        write_whole(path, wanted)


@contextmanager
def following(options: ServeOptions, directory: Path | None, offer: Offer) -> Iterator[None]:
    """Follows in a thread for the length of a block, and records the server in its directory where it has one."""
    server = running_server(options)
    stopping = threading.Event()
    thread = threading.Thread(
        target=repeat, args=(server, offer, lambda: not stopping.wait(POLL_SECONDS)), name="follow", daemon=True
    )
    thread.start()
    try:
        with ExitStack() as stack:
            # Without a place for its record, or file locks, it is served all the same; `fashion label` then does not
            # wait for it.
            with suppress(OSError, ImportError):
                if directory is not None:
                    stack.enter_context(recorded(server, directory))
            yield
    finally:
        stopping.set()
        thread.join()
        if directory is not None:
            with suppress(OSError):
                forget(directory)


def start_follower(options: ServeOptions, directory: Path) -> None:
    """Starts the process that follows for a detached server. Raises OSError."""
    with recorded(running_server(options), directory) as lock:
        command = [*module_command("serving.launch.follower"), str(directory)]
        start_session(command, lock, directory / "follow.log", {**os.environ, ADDRESS_VARIABLE: options.address})


def repeat(server: RunningServer, offer: Offer, goes_on: Callable[[], bool]) -> None:
    """Follows while `goes_on`, which waits."""
    complaint = ""
    while goes_on():
        try:
            follow(server, offer)
            follow_certificates(Path(server.config_dir), server.tls_files)
            complaint = ""
        except (OSError, FashionError) as error:
            # Said once; what is wrong on the disk may be mended.
            if str(error) != complaint:
                complaint = str(error)
                print(f"Note: the server's configuration does not follow: {error}", file=sys.stderr, flush=True)
