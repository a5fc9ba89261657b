"""Which version directories are whole: one that is still being copied is waited for.

A version that is renamed into place, or has a complete manifest, is loaded at once, one without a manifest when two
looks in a row have seen the same.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from fashion_common.layout import MODEL_FILES
from serving.embedded.models import manifest
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServingError

# What has not changed for so long, by its files' times, is taken as it is when it is first seen.
_OLD_SECONDS = 2.0
# How long what was seen growing, or lacks something, must be at rest before it is taken as it is.
_REST_SECONDS = 5.0


@dataclass
class _Sight:
    """What a directory looked like at the last look, and since when, by `time.monotonic`.

    grows: whether it has changed since it was first seen. is_taken: whether it was found whole.
    """

    fingerprint: object
    since: float
    grows: bool = False
    is_taken: bool = False


class Arrivals:
    """Looks at the version directories of one model, again and again. settle_seconds: between two looks, at least."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._sights: dict[int, _Sight] = {}

    def forget_all_but(self, numbers: Collection[int]) -> None:
        """Forgets the directories that are gone."""
        self._sights = {number: sight for number, sight in self._sights.items() if number in numbers}

    def is_whole(self, number: int, directory: VersionDirectory, *, failed: bool) -> bool:
        """Whether a version may be loaded. One that may stays so, unless it has `failed` and its files change."""
        sight = self._sights.get(number)
        if sight is not None and sight.is_taken and not failed:
            return True
        directory.look()
        if sight is None or sight.fingerprint != directory.fingerprint:
            grows = sight is not None and not sight.is_taken
            sight = self._sights[number] = _Sight(directory.fingerprint, time.monotonic(), grows)
        sight.is_taken = sight.is_taken or self._is_at_rest(directory, sight)
        return sight.is_taken

    def grows(self, number: int) -> bool:
        """Whether a directory has changed since it was first seen."""
        sight = self._sights.get(number)
        return sight is not None and sight.grows

    def _is_at_rest(self, directory: VersionDirectory, sight: _Sight) -> bool:
        try:
            whole = manifest.is_whole(directory)
            has_model = any(directory.file(name) for name in MODEL_FILES)
        except (ServingError, OSError):
            whole = has_model = False
        if whole:
            return True
        lacks = whole is False or not has_model
        rest = time.monotonic() - sight.since
        if time.time() - directory.changed >= (_REST_SECONDS if lacks else _OLD_SECONDS):
            return not sight.grows or rest >= _REST_SECONDS
        return rest >= (_REST_SECONDS if lacks or sight.grows else self._settle_seconds)
