"""The configuration that all workers of a server have: the newest, whoever took it over."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fashion_common.files import write_whole
from serving.apis.messages import ModelServerConfig
from serving.embedded.event_log import CONFIGURATION_REFUSED, log_event
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.core import ServerCore
from serving.errors import ServerConfigError, ServingError, Unavailable


class Record(NamedTuple):
    """own: the operator's configuration. reloaded: what a caller has replaced it by since. file: of own's, `digest`."""

    own: ModelServerConfig
    reloaded: ModelServerConfig | None = None
    file: str = ""

    def to_bytes(self) -> bytes:
        """For the file that the workers share."""
        configs = [self.own] if self.reloaded is None else [self.own, self.reloaded]
        texts = [base64.b64encode(config.SerializeToString()).decode() for config in configs]
        return json.dumps([self.file, *texts]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """What `to_bytes` gave."""
        file, *texts = json.loads(data)
        own, *reloaded = (ModelServerConfig.FromString(base64.b64decode(text)) for text in texts)
        return cls(own, reloaded[0] if reloaded else None, file)


def digest(file: str) -> str:
    """Of what a file holds; one that cannot be read counts as empty."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return ""


def record_path(directory: Path) -> Path:
    """The file that the workers share."""
    return directory / "configuration"


class SharedConfig:
    """One worker's hold on the configuration of all.

    Whoever takes one over writes it down first, one worker at a time; the others follow. So all end in the same one,
    and a worker that starts has it too.
    """

    def __init__(self, core: ServerCore[LoadedModel], directory: Path) -> None:
        self._core = core
        self._path = record_path(directory)
        self._turn_path = directory / "turn"
        self._applied = self._refused = b""
        self._applying = threading.Lock()

    def first(self) -> Record:
        """What this worker begins with."""
        self._applied = self._path.read_bytes()
        return Record.from_bytes(self._applied)

    def reload(self, config: ModelServerConfig) -> None:
        """Takes a caller's configuration over. Raises ServingError."""
        with self._applying, self._turn() as end_turn:
            self._take_over(self._record()._replace(reloaded=config), end_turn)

    def look_at(self, file: str, read: Callable[[], ModelServerConfig]) -> None:
        """Takes over what --model_config_file holds, if no worker has yet. What cannot be is logged, once for all."""
        text = digest(file)
        if text == self._record().file:
            return
        with self._applying, self._turn() as end_turn:
            record = self._record()
            if text == record.file:
                return
            try:
                self._take_over(Record(read(), file=text), end_turn)
            except (ServingError, ServerConfigError) as error:
                log_event(CONFIGURATION_REFUSED, file=file, error=str(error))
                if self._record() == record:
                    self._note(record._replace(file=text), end_turn)

    def follow(self) -> None:
        """Takes over what another worker has written down. Raises ServingError; tried again when it is called again."""
        with self._applying:
            data = self._read()
            record, applied = Record.from_bytes(data), Record.from_bytes(self._applied)
            if record[:2] == applied[:2]:
                return
            self._core.reload(
                record.reloaded or record.own,
                own=record.reloaded is None,
                before=lambda: self._set_applied(data),
            )

    def poll(self) -> None:
        """The same, and what cannot be taken over is logged, once."""
        try:
            self.follow()
        except ServingError as error:
            with contextlib.suppress(ServingError):
                data = self._read()
                if data != self._refused:
                    log_event(CONFIGURATION_REFUSED, file="the configuration of the other workers", error=str(error))
                self._refused = data

    def _take_over(self, record: Record, end_turn: Callable[[], None]) -> None:
        self._core.reload(
            record.reloaded or record.own,
            own=record.reloaded is None,
            before=lambda: self._note(record, end_turn),
        )

    def _note(self, record: Record, end_turn: Callable[[], None]) -> None:
        """Writes down what this worker takes over now; another one may write from then on. Raises Unavailable."""
        data = record.to_bytes()
        try:
            write_whole(self._path, data)
        except OSError as error:
            raise Unavailable(f"the other workers cannot be told of a configuration: {error.strerror}") from error
        self._set_applied(data)
        end_turn()

    def _set_applied(self, data: bytes) -> None:
        self._applied = data

    def _record(self) -> Record:
        return Record.from_bytes(self._read())

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise Unavailable(f"the configuration of the workers cannot be read: {error.strerror}") from error

    @contextlib.contextmanager
    def _turn(self) -> Iterator[Callable[[], None]]:
        """This worker's turn to write, until it is ended; that of one that dies ends too. Raises Unavailable."""
        try:
            file = self._turn_path.open("ab")
        except OSError as error:
            raise Unavailable(f"the workers' directory cannot be written to: {error.strerror}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file.close
