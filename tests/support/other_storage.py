"""The embedded server over a storage of its own: `python other_storage.py BASE_PATH DIRECTORY [flag ...]`.

BASE_PATH is where the models are as far as the server's configuration and messages go. There is nothing: only what asks
`serving.embedded.models.storage` gets the files, which are in DIRECTORY.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serving.embedded import __main__ as server
from serving.embedded.models import storage


class _VersionElsewhere(storage.VersionDirectory):
    """A version whose text is no path of its files."""

    def __init__(self, text: str, local: storage.VersionDirectory) -> None:
        super().__init__(local.local_path())
        self._text = text

    def __str__(self) -> str:
        return self._text


def main(configured: str, directory: str, *flags: str) -> int:
    """Runs the server until SIGTERM. Gives its exit code."""
    assert not Path(configured).exists()
    local_versions, local_is_readable = storage.versions, storage.is_readable

    def versions(model_name: str, base_path: str) -> dict[int, storage.VersionDirectory]:
        local = local_versions(model_name, base_path.replace(configured, directory))
        return {number: _VersionElsewhere(f"{base_path}/{number}", version) for number, version in local.items()}

    def is_readable(base_path: str) -> bool:
        return local_is_readable(base_path.replace(configured, directory))

    storage.versions, storage.is_readable = versions, is_readable
    return server.main(flags)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
