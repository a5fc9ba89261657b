"""The servers that `fashion serve` runs on this machine, and what they answer about their versions and labels.

Each has a record in the state directory, and whoever keeps its configuration up to date holds a lock beside it for as
long as it runs. What is asked is asked over REST, whatever server it is:
https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from fashion_common.files import write_whole
from fashion_common.installation import TOKEN_FILE, state_directory

RECORD_FILE = "running.json"
_LOCK_FILE = "running.lock"
_STATUS_SECONDS = 2
_METADATA_SECONDS = 5
# serving/config/monitoring.config has it.
_METRICS_PATH = "/monitoring/prometheus/metrics"
# Not over a proxy: the servers are on this machine. Whoever listens in a server's place gets nothing but a token that
# died with the server.
_UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_UNVERIFIED))
# OSError has urllib's own errors.
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError, KeyError, TypeError)


class RunningServer(NamedTuple):
    """A server of one model.

    model_base_path: absolute, on this machine. served_base_path: the same as the server sees it. url: of the model's
    status. config_dir: the directory of its models.config. public_keys: the files of those that must have signed
    what it is told to serve; none for no matter who. tls_files: what its SSLConfig is made of; none without.
    """

    model_base_path: str
    served_base_path: str
    model_name: str
    url: str
    config_dir: str
    public_keys: Sequence[str] = ()
    tls_files: Sequence[str] = ()

    @property
    def token(self) -> str:
        """By which it is asked; empty where it asks nobody."""
        return own_token(self.config_dir)

    def states(self) -> dict[int, dict[str, Any]]:
        """Each version's `model_version_status` of the REST API; empty while nobody listens or the model is unknown."""
        return version_states(self.url, self.token)

    def available(self) -> set[int]:
        """The versions that answer."""
        return {version for version, status in self.states().items() if status["state"] == "AVAILABLE"}

    def version_of(self, label: str) -> int | None:
        """The version that answers for a label; None where none does."""
        try:
            url = f"{self.url}/labels/{urllib.parse.quote(label, safe='')}/metadata"
            with _opened(url, self.token, _METADATA_SECONDS) as answer:
                return int(json.load(answer)["model_spec"]["version"])
        except _NO_ANSWER:
            return None

    def metrics(self) -> str:
        """What Prometheus reads; empty where nothing answers."""
        origin = self.url.partition("/v1/")[0]
        try:
            with _opened(f"{origin}{_METRICS_PATH}", self.token, _STATUS_SECONDS) as answer:
                return str(answer.read(), "utf-8")
        except _NO_ANSWER:
            return ""


def own_token(config_dir: Path | str) -> str:
    """The token by which `fashion` asks the server with this configuration directory; empty where it has none."""
    with suppress(OSError):
        return (Path(config_dir) / TOKEN_FILE).read_text(encoding="ascii")
    return ""


def version_states(url: str, token: str = "") -> dict[int, dict[str, Any]]:
    """Each version's `model_version_status` at the URL of a model's status; empty where nothing answers."""
    try:
        with _opened(url, token, _STATUS_SECONDS) as answer:
            return {int(status["version"]): status for status in json.load(answer)["model_version_status"]}
    except _NO_ANSWER:
        return {}


@contextmanager
def recorded(server: RunningServer, directory: Path) -> Iterator[IO[bytes]]:
    """Records a server in its directory for as long as the lock that this gives is held, by us or who inherits it.

    Raises OSError.
    """
    import fcntl

    directory.mkdir(parents=True, exist_ok=True)
    # Another file than before: whoever still holds that one has nothing to do with this server.
    (directory / _LOCK_FILE).unlink(missing_ok=True)
    with (directory / _LOCK_FILE).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_whole(directory / RECORD_FILE, json.dumps(server._asdict()) + "\n")
        yield lock


def forget(directory: Path) -> None:
    """Removes the record of a server that has ended, and the directory where nothing else is in it."""
    for name in (RECORD_FILE, _LOCK_FILE):
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def read_record(directory: Path) -> RunningServer | None:
    """The server that is recorded in a directory, whether it runs or not."""
    with suppress(OSError, ValueError, TypeError):
        server = RunningServer(**json.loads((directory / RECORD_FILE).read_text(encoding="utf-8")))
        return server._replace(public_keys=tuple(server.public_keys), tls_files=tuple(server.tls_files))
    return None


def running_servers(model_base_path: Path) -> list[RunningServer]:
    """The servers of a model base path that run on this machine, in the order of their ports."""
    # Without a home directory, and without XDG_STATE_HOME, none was recorded.
    with suppress(RuntimeError, OSError):
        wanted = os.path.realpath(model_base_path)
        directories = sorted(state_directory().glob(f"*/{RECORD_FILE}"))
        servers = [read_record(path.parent) for path in directories if _is_locked(path.parent / _LOCK_FILE)]
        return [server for server in servers if server and os.path.realpath(server.model_base_path) == wanted]
    return []


def _opened(url: str, token: str, seconds: float) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return _OPENER.open(urllib.request.Request(url, headers=headers), timeout=seconds)  # noqa: S310 - a server of ours


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
