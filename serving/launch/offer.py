"""Which versions a server is offered: all that are there, or with --require-signature those that a trusted key signed.

A server's models.config names no other, so that every backend holds to it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from delivery.errors import DeliveryUsageError, SignatureError
from serving.launch.errors import ServeUsageError


class Offer:
    """The versions that a server may be told of. public_keys: PEM files; none for all versions.

    Raises ServeUsageError for a key that cannot be read.
    """

    def __init__(self, public_keys: Sequence[Path | str] = ()) -> None:
        # By version: what its files were when they were verified, and why it is refused.
        self._verified: dict[int, tuple[object, str]] = {}
        self._keys = None
        if public_keys:
            from delivery import verification

            try:
                self._keys = verification.public_keys(list(map(Path, public_keys)))
            except DeliveryUsageError as error:
                raise ServeUsageError(f"--require-signature: {error}") from error

    def versions(self, directories: Mapping[int, Path]) -> dict[int, Path]:
        """Those that may be served; each one that is refused is told once on stderr, until its files change.

        Files are read anew when one of their sizes and times differs.
        """
        if self._keys is None:
            return dict(directories)
        return {number: path for number, path in directories.items() if not self._refusal(number, path)}

    def _refusal(self, number: int, path: Path) -> str:
        from delivery.verification import fingerprint, verify_version

        assert self._keys is not None
        files, refusal = None, ""
        known = self._verified.get(number, (None, ""))
        try:
            files = fingerprint(path)
            if known[0] == files:
                return known[1]
            verify_version(path, self._keys)
        except (SignatureError, OSError) as error:
            refusal = str(error)
        self._verified[number] = files, refusal
        if refusal and refusal != known[1]:
            print(f"Note: version {number} is not served: {refusal}", file=sys.stderr, flush=True)
        return refusal
