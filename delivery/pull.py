"""Versions from anywhere to a model base path on this machine's disk: whole and verified, or not there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from delivery.base_path import lock_directory, remove_old_versions, sync, sync_tree
from delivery.errors import (
    ChangedError,
    DeliveryError,
    DeliveryUsageError,
    RefusedError,
    SignatureError,
    SourceError,
)
from delivery.fetch import FILES, discard, fetch
from delivery.places import Place, RemoteFile
from delivery.verification import PublicKey, verify_version
from fashion_common.errors import LabelsError
from fashion_common.labels import LABELS_FILE, Labels, labels_writer, parse_labels, read_labels
from fashion_common.layout import MANIFEST_FILE, MODEL_FILES, version_directories, version_number

PULLED, PRESENT, REFUSED = "pulled", "present", "refused"
# Hidden, so that no server takes it for a version.
_PREFIX = ".pull-"
# Of a source that gives nothing, and of a version that changes.
_TRIES = 3
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 300.0
_MAX_LABELS_BYTES = 16 * 2**20


class Outcome(NamedTuple):
    """What became of a version. path: on this machine. state: PULLED, PRESENT or REFUSED.

    digests: whether its files were held to those of its manifest; else only to their sizes. key: the file of the key
    that signed, where keys are given. reason: of a refusal.
    """

    version: int
    path: str
    state: str
    digests: bool = False
    key: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.state == REFUSED:
            return f"Version {self.version} is refused: {self.reason}"
        if self.state == PRESENT:
            return f"{self.path} is there already"
        checked = "SHA-256 as in its manifest" if self.digests else "no manifest: only sizes compared"
        return f"{self.path}: {checked}{f', signed with {self.key}' if self.key else ''}"


class Source:
    """A model base path, or one version, at any address that fsspec knows.

    model_name: the last part of the model base path. Raises DeliveryUsageError for an address that cannot be.
    """

    def __init__(self, address: str) -> None:
        self.place = Place.of(address)
        *_, parent, name = ("", "", *(part for part in self.place.path.split("/") if part))
        self._version = version_number(name)
        self.model_name = name if self._version is None else parent
        if not self.model_name.strip("."):
            raise DeliveryUsageError(f"{self.place.shown} names no model: give one such as s3://bucket/fashion_mnist")

    def listing(self) -> tuple[dict[int, Place], bytes | None]:
        """The versions that are there, and the content of the labels beside them, if any.

        Raises SourceError, DeliveryUsageError for what is no model base path.
        """
        if self._version is not None:
            return {self._version: self.place}, None
        children = self.place.children()
        versions = {
            number: self.place / name
            for name, kind in sorted(children.items())
            if kind == "directory" and (number := version_number(name)) is not None
        }
        if not versions:
            if any(name in children for name in MODEL_FILES):
                example = (self.place / "1").shown
                raise DeliveryUsageError(f"{self.place.shown} holds a model itself: a version is named as {example}")
            raise SourceError(f"{self.place.shown} holds no version: they have numbers for names")
        if LABELS_FILE not in children:
            return versions, None
        file = (self.place / LABELS_FILE).file()
        if file.size > _MAX_LABELS_BYTES:
            raise SourceError(f"{(self.place / LABELS_FILE).shown} has {file.size} bytes, and may have 16 MiB")
        return versions, self.place.piece(file, 0, file.size)


class Puller:
    """Brings the versions of a source to a directory of models, look by look.

    to: the directory of models; the model's name is added. keys: one of them must have signed a version, if there are
    any. keep: as `fashion export --keep`; None removes nothing. progress: told of the version, of the bytes that are
    there, and of all. note: why the labels of the source were not taken over at the last look; empty otherwise.
    """

    def __init__(
        self,
        source: Source,
        to: Path,
        keys: Sequence[PublicKey] = (),
        keep: int | None = None,
        progress: Callable[[int, int, int], None] = lambda _version, _done, _total: None,
    ) -> None:
        self.model_base_path = to / source.model_name
        self._source = source
        self._keys = keys
        self._keep = keep
        self._progress = progress
        self.note = ""
        # By version, its files when they were refused, and why; its files at the last look; what is here.
        self._refused: dict[int, tuple[object, str]] = {}
        self._seen: dict[int, object] = {}
        self._present: dict[int, Outcome] = {}
        self._is_first = True

    def look(self) -> Iterator[Outcome]:
        """Pulls the newest version that is whole and signed, and those that labels use; then the labels themselves.

        Gives what became of each as it happens. Raises SourceError when nothing can be read, DeliveryError.
        """
        remote, text = self._source.listing()
        self.note = ""
        try:
            self.model_base_path.mkdir(parents=True, exist_ok=True)
            newest = 0
            for newest in sorted(remote, reverse=True):
                outcome = self._version(newest, remote[newest])
                yield outcome
                if outcome.state != REFUSED:
                    self._remove_halves(newest)
                    break
            try:
                labels = parse_labels(text, LABELS_FILE) if text is not None else Labels()
                for number in sorted(labels.in_use() & remote.keys()):
                    if number < newest:
                        yield self._version(number, remote[number])
                if text is not None:
                    self._take_labels(text, labels)
                if self._keep is not None:
                    remove_old_versions(self.model_base_path, self._keep)
            except LabelsError as error:
                self.note = f"the labels stay as they are here: {error}"
        except OSError as error:
            raise DeliveryError(f"{self.model_base_path} cannot be written: {error.strerror or error}") from error
        self._is_first = False

    def _version(self, number: int, place: Place) -> Outcome:
        path = self.model_base_path / str(number)
        if number in self._present and path.is_dir():
            return self._present[number]
        try:
            if (here := version_directories(self.model_base_path).get(number)) is not None:
                key = verify_version(here, self._keys).key if self._keys else None
                outcome = Outcome(number, str(here), PRESENT, key=key)
            else:
                outcome = self._pulled(number, place, path)
        except (RefusedError, SignatureError) as error:
            return Outcome(number, str(path), REFUSED, reason=str(error))
        self._present[number] = outcome._replace(state=PRESENT)
        return outcome

    def _pulled(self, number: int, place: Place, path: Path) -> Outcome:
        for last in reversed(range(_TRIES)):
            files = place.files()
            refused, reason = self._refused.get(number, (None, ""))
            if files == refused:
                raise RefusedError(reason)
            if MANIFEST_FILE not in files and not self._is_first and self._seen.get(number) != files:
                self._seen[number] = files
                raise RefusedError("it has no manifest: it is taken when two looks have seen the same")
            try:
                return self._published(number, place, files, path)
            except ChangedError:
                if last == 0:
                    raise
            except (RefusedError, SignatureError) as error:
                self._refused[number] = files, str(error)
                raise
        raise AssertionError

    def _published(self, number: int, place: Place, files: Mapping[str, RemoteFile], path: Path) -> Outcome:
        with _aside(self.model_base_path, number) as aside:
            digests = self._fetched(number, place, files, aside)
            try:
                key = verify_version(aside / FILES, self._keys).key if self._keys else None
            except SignatureError:
                discard(aside)
                raise
            sync_tree(aside / FILES)
            (aside / FILES).rename(path)
            sync(self.model_base_path)
            discard(aside)
        return Outcome(number, str(path), PULLED, digests, key)

    def _fetched(self, number: int, place: Place, files: Mapping[str, RemoteFile], aside: Path) -> bool:
        """As `fetch`, again after each cut as long as something comes."""
        here = reached = -1

        def progress(done: int, total: int) -> None:
            nonlocal here
            here = done
            self._progress(number, done, total)

        failures = 0
        while True:
            try:
                return fetch(place, files, aside, progress)
            except SourceError:
                failures = 1 if here > reached else failures + 1
                reached = max(reached, here)
                if failures == _TRIES:
                    raise
                time.sleep(_PAUSE_SECONDS * failures)

    def _remove_halves(self, newest: int) -> None:
        """Removes what was begun of the newest version here and of older ones, if nobody goes on with it."""
        for path in self.model_base_path.glob(f"{_PREFIX}*"):
            number = version_number(path.name.removeprefix(_PREFIX))
            if number is not None and number <= newest:
                with suppress(DeliveryError), _aside(self.model_base_path, number) as aside:
                    discard(aside)

    def _take_labels(self, text: bytes, labels: Labels) -> None:
        """Makes the source's labels the local ones. Raises LabelsError, also where a version of theirs is not here."""
        if missing := sorted(set(labels.moved.values()) - version_directories(self.model_base_path).keys()):
            raise LabelsError(f"version {missing[0]}, which one names, is not there")
        if labels != read_labels(self.model_base_path):
            with labels_writer(self.model_base_path) as writer:
                writer.replace(text)


def watch(
    puller: Puller,
    interval: float,
    wait: Callable[[float], bool],
    tell: Callable[[Outcome], None],
    complain: Callable[[str], None],
) -> None:
    """Looks every `interval` seconds, less often while looks fail, until `wait`, which gets seconds, says it is over.

    tell: gets what was pulled, and each refusal once. complain: gets each failure once, in one line.
    """
    failures = 0
    refusals: dict[int, str | None] = {}
    complaint = ""
    while True:
        try:
            for outcome in puller.look():
                if outcome.state == PULLED or (outcome.state == REFUSED and refusals.get(outcome.version) is None):
                    tell(outcome)
                refusals[outcome.version] = outcome.reason
            failures, problem = 0, puller.note
        except DeliveryError as error:
            failures, problem = failures + 1, f"{error}: trying again"
        if problem and problem != complaint:
            complain(problem)
        complaint = problem
        if wait(min(interval * 2.0 ** min(failures, 20), max(interval, _MAX_PAUSE_SECONDS))):
            return


@contextmanager
def _aside(model_base_path: Path, number: int) -> Iterator[Path]:
    """The hidden directory that a version is fetched into, of our own for the time of a block. Raises DeliveryError."""
    path = model_base_path / f"{_PREFIX}{number}"
    path.mkdir(exist_ok=True)
    try:
        lock = lock_directory(path)
    except BlockingIOError:
        raise DeliveryError(f"version {number} is being fetched to {model_base_path} by another process") from None
    try:
        yield path
    finally:
        os.close(lock)
