"""The manifest of a version: what is written into it, and what is said of files that are not as it has them."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fashion_common.layout import MANIFEST_FILE
from tests.support.keys import write_version
from training.errors import DamagedVersionError
from training.export.manifest import check_files, read_manifest, recorded_accuracy, write_manifest
from training.origin import environment


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version of two files."""
    return write_version(tmp_path / "1", {"saved_model.pb": b"graph", "variables/variables.index": b"index"})


def test_a_manifest_has_the_facts_the_environment_and_every_file(version: Path) -> None:
    """Indented; the files in the order of their names, with digest and size."""
    began = datetime.now(timezone.utc).replace(microsecond=0)
    write_manifest(version, {"accuracy": 0.5, "recipe": "fast"})
    text = (version / MANIFEST_FILE).read_text()
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2) + "\n"
    assert began <= datetime.fromisoformat(manifest.pop("exported_at")) <= datetime.now(timezone.utc)
    assert manifest == {
        "accuracy": 0.5,
        "recipe": "fast",
        **environment(),
        "files": {
            "saved_model.pb": {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5},
            "variables/variables.index": {"sha256": hashlib.sha256(b"index").hexdigest(), "bytes": 5},
        },
    }
    assert list(manifest)[:2] == ["accuracy", "recipe"]
    read = read_manifest(version)
    assert read is not None
    assert check_files(version, read) == 2


def test_a_version_without_a_manifest_has_none(version: Path) -> None:
    """It is no error."""
    assert read_manifest(version) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"\xff", "is damaged ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (b"[]", "is no JSON object"),
        (None, "is damaged ([Errno 21] Is a directory: '{}')"),
    ],
)
def test_a_damaged_manifest_is_named(version: Path, content: bytes | None, expected: str) -> None:
    """With what to do."""
    path = version / MANIFEST_FILE
    if content is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(DamagedVersionError) as error:
        read_manifest(version)
    assert str(error.value) == f"The manifest {path} {expected.format(path)}: export or copy the version again"


def refusal(version: Path, manifest: dict[str, Any]) -> str:
    """What is said of a version's files."""
    with pytest.raises(DamagedVersionError) as error:
        check_files(version, manifest)
    return str(error.value)


def test_files_that_are_not_as_they_were_exported(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing, differs, cannot be read, or is not in the version; files that were added do not count."""
    write_manifest(version, {})
    manifest = read_manifest(version)
    assert manifest is not None
    (version / "more").touch()
    assert check_files(version, manifest) == 2
    graph = version / "saved_model.pb"
    graph.write_bytes(b"grapf")
    assert refusal(version, manifest) == (
        f"{graph} is not the file that was exported (SHA-256 differs): copy the version again"
    )
    graph.unlink()
    assert refusal(version, manifest) == f"{graph} is missing: copy the version again"
    graph.mkdir()
    assert refusal(version, manifest) == f"{graph} is missing: copy the version again"
    for name in ("../outside", "/etc/passwd"):
        (version.parent / "outside").touch()
        assert refusal(version, {"files": {name: {}}}) == (
            f"The manifest of {version} names {name}, a file outside of the version"
        )
    assert refusal(version, {"files": {"a\0b": {}}}) == (
        f"The manifest of {version} names 'a\\x00b', which no file can have: copy the version again"
    )
    name = "a" * 256
    assert refusal(version, {"files": {name: {}}}) == (
        f"{version / name} cannot be read (File name too long): make it readable"
    )
    for facts in ({}, {"files": ["saved_model.pb"]}):
        assert refusal(version, dict(facts)) == (
            f"The manifest of {version} lists no files: export or copy the version again"
        )
    graph.rmdir()
    graph.write_bytes(b"graph")

    def unreadable(_path: Path) -> bytes:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    assert refusal(version, manifest) == f"{graph} cannot be read (Input/output error): make it readable"


def test_an_accuracy_is_a_number() -> None:
    """Anything else was not measured."""
    assert [recorded_accuracy({"accuracy": value}) for value in (0.5, 1, "0.5", None)] == [0.5, 1.0, None, None]
    assert recorded_accuracy({}) is None
