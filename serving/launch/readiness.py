"""Whether a server has the model AVAILABLE: asked over REST, whatever server it is."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Protocol

from fashion_common.errors import FashionError
from serving.launch.backends import ServeOptions

_POLL_SECONDS = 0.05
_ASK_SECONDS = 2
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask it, not to listen
# Not over a proxy: the server is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerEndedError(FashionError):
    """The server ended by itself, or does not get the model AVAILABLE."""


class Starting(Protocol):
    """A server that is being started."""

    def alive(self) -> bool:
        """Whether it still runs."""

    def last_lines(self) -> Sequence[str]:
        """What it said last."""


def address(host: str, port: int) -> str:
    """Where a client on this machine finds a server that listens on host."""
    reachable = _ANYWHERE.get(host, host)
    return f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"


def status_url(options: ServeOptions) -> str:
    """The model's state over REST."""
    name = urllib.parse.quote(options.model_name, safe="")
    return f"http://{address(options.host, options.rest_port)}/v1/models/{name}"


def wait_until_available(server: Starting, options: ServeOptions, seconds: float) -> None:
    """Returns when a version is AVAILABLE, and none is still being loaded.

    Raises ServerEndedError with the server's last line when it ends, cannot load the model, or takes longer.
    """
    give_up = time.monotonic() + seconds
    while not _is_available(options):
        if not server.alive():
            raise ServerEndedError(f"the server ended before the model was AVAILABLE: {_last(server)}")
        if time.monotonic() > give_up:
            raise ServerEndedError(
                f"{options.model_name} is not AVAILABLE after {seconds:g} s (--wait takes more): {_last(server)}"
            )
        time.sleep(_POLL_SECONDS)


def _is_available(options: ServeOptions) -> bool:
    """Raises ServerEndedError when every version has failed to load."""
    try:
        with _OPENER.open(status_url(options), timeout=_ASK_SECONDS) as answer:
            versions = json.load(answer)["model_version_status"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        # OSError has urllib's own errors: nobody listens yet, or the model is not known yet.
        return False
    states = {version["state"] for version in versions}
    if states & {"START", "LOADING"}:
        return False
    if "AVAILABLE" in states:
        return True
    failed = [version for version in versions if version["status"]["error_code"] != "OK"]
    if failed and len(failed) == len(versions):
        first = failed[0]
        raise ServerEndedError(
            f"version {first['version']} of {options.model_name} cannot be loaded: {first['status']['error_message']}"
        )
    return False


def _last(server: Starting) -> str:
    lines = server.last_lines()
    return lines[-1] if lines else "it said nothing (--verbose shows more)"
