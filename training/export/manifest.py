"""The manifest of a version: its origin, its accuracy and losses, and a digest of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fashion_common.files import write_whole
from fashion_common.layout import MANIFEST_FILE
from training.errors import DamagedVersionError
from training.origin import environment

Manifest = dict[str, Any]  # JSON, as written by any release: read it with .get


def write_manifest(version_path: Path, facts: Mapping[str, Any]) -> None:
    """Writes the manifest: the facts, the environment (date, packages, git revision), and the files' digests.

    Called last: a file that is added to the version afterwards is not covered. Raises OSError.
    """
    manifest = {
        **facts,
        "exported_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **environment(),
        "files": {
            path.relative_to(version_path).as_posix(): _digest(path)
            for path in sorted(version_path.rglob("*"))
            if path.is_file()
        },
    }
    write_whole(version_path / MANIFEST_FILE, json.dumps(manifest, indent=2) + "\n")


def read_manifest(version_path: Path) -> Manifest | None:
    """The manifest of a version; None where there is none. Raises DamagedVersionError when it is no JSON object."""
    path = version_path / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedVersionError(
            f"The manifest {path} is damaged ({error}): export or copy the version again"
        ) from error
    if not isinstance(manifest, dict):
        raise DamagedVersionError(f"The manifest {path} is no JSON object: export or copy the version again")
    return manifest


def recorded_accuracy(manifest: Manifest) -> float | None:
    """The accuracy of a version, from 0 to 1; None when it was not measured."""
    accuracy = manifest.get("accuracy")
    return float(accuracy) if isinstance(accuracy, int | float) else None


def check_files(version_path: Path, manifest: Manifest) -> int:
    """Compares every file with its digest; gives their number. Raises DamagedVersionError naming one that differs."""
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise DamagedVersionError(f"The manifest of {version_path} lists no files: export or copy the version again")
    for name, recorded in files.items():
        path = version_path / name
        try:
            if not path.resolve().is_relative_to(version_path.resolve()):
                raise DamagedVersionError(f"The manifest of {version_path} names {name}, a file outside of the version")
            if not path.is_file():
                raise DamagedVersionError(f"{path} is missing: copy the version again")
            digest = _digest(path)
        except OSError as error:
            raise DamagedVersionError(f"{path} cannot be read ({error.strerror}): make it readable") from error
        except ValueError as error:
            raise DamagedVersionError(
                f"The manifest of {version_path} names {name!r}, which no file can have: copy the version again"
            ) from error
        if recorded != digest:
            raise DamagedVersionError(
                f"{path} is not the file that was exported (SHA-256 differs): copy the version again"
            )
    return len(files)


def _digest(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
