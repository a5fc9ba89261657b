"""`--model-base-path s3://...`: versions from elsewhere are pulled before the start, and while they are served.

Every backend serves the directory on this machine's disk that the versions come to.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from delivery.address import is_address, without_secrets
from delivery.errors import DeliveryError, DeliveryUsageError
from fashion_common.errors import FashionError
from fashion_common.installation import install_command
from fashion_common.layout import version_directories
from serving.launch.errors import LaunchError, ServeUsageError

if TYPE_CHECKING:
    from delivery.pull import Outcome, Puller

# An environment variable of the process that follows for a detached server: a command line is everybody's to read.
ADDRESS_VARIABLE = "FASHION_SERVE_ADDRESS"
WATCH_SECONDS = 10.0


def opened(address: str, to: Path | None, public_keys: Sequence[Path | str] = ()) -> Puller | None:
    """What pulls from an address; None for a path of this machine.

    to: the directory of models; None for one of the address's own in the user's cache. Raises ServeUsageError for an
    address that cannot be, for a path with a `to`, and without the extra [pull]; LaunchError without a home.
    """
    if not is_address(address):
        if to:
            raise ServeUsageError("--pull-to belongs to an address: --model-base-path s3://bucket/model")
        return None
    try:
        from delivery.pull import Puller, Source
        from delivery.verification import public_keys as read_keys

        keys = read_keys(list(map(Path, public_keys))) if public_keys else ()
        return Puller(Source(address), to or _cache(address), keys)
    except ModuleNotFoundError as error:
        raise ServeUsageError(
            f"an address for --model-base-path needs the extra [pull] ({error.name} is not installed): "
            f"{install_command('pull')}"
        ) from error
    except DeliveryUsageError as error:
        raise ServeUsageError(str(error)) from error


def pull_first(puller: Puller | None) -> None:
    """Pulls once, a line for each version that comes. Where that fails, what was pulled before is served, with a note.

    Raises LaunchError where nothing was. Does nothing without a puller.
    """
    if puller is None:
        return
    try:
        for outcome in puller.look():
            _tell(outcome)
        if puller.note:
            _complain(puller.note)
    except DeliveryError as error:
        if not version_directories(puller.model_base_path):
            raise (ServeUsageError if isinstance(error, DeliveryUsageError) else LaunchError)(str(error)) from error
        _complain(f"{error}: what was pulled before is served")


@contextmanager
def following_source(puller: Puller | None) -> Iterator[None]:
    """Pulls new versions and labels in a thread for the length of a block; nothing without a puller."""
    if puller is None:
        yield
        return
    from delivery.pull import watch

    stopping = threading.Event()
    # It may hang in a read: nobody waits for its end, and what it leaves half is gone on with.
    arguments = (puller, WATCH_SECONDS, stopping.wait, _tell, _complain)
    threading.Thread(target=watch, args=arguments, name="pull", daemon=True).start()
    try:
        yield
    finally:
        stopping.set()


def detached_puller(model_base_path: str, public_keys: Sequence[str]) -> Puller | None:
    """What pulls beside a detached server, in the process that follows; None where its versions are of this machine."""
    address = os.environ.get(ADDRESS_VARIABLE)
    try:
        return opened(address, Path(model_base_path).parent, public_keys) if address else None
    except FashionError as error:
        _complain(str(error))
        return None


def _cache(address: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        cache = base if base.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise LaunchError(
            "pulled versions have no place, as you have no home directory: --pull-to names one"
        ) from error
    return cache / "fashion-serving" / hashlib.sha256(without_secrets(address).encode()).hexdigest()[:16]


def _tell(outcome: Outcome) -> None:
    print(f"Pulled {outcome}" if outcome.state == "pulled" else outcome, file=sys.stderr, flush=True)


def _complain(text: str) -> None:
    print(f"Note: {text}", file=sys.stderr, flush=True)
