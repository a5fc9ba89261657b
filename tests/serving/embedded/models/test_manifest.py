"""A version's files are held to its manifest before any of them is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fashion_common.layout import ASSETS_EXTRA, MANIFEST_FILE, WARMUP_FILE
from serving.embedded.models.manifest import check_files
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition

FILES = ("saved_model.pb", "variables/a", "assets/words.txt", f"{ASSETS_EXTRA}/self_test.npz")


def write_manifest(version: Path) -> None:
    """As an export does."""
    files = {
        path.relative_to(version).as_posix(): {
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in version.rglob("*")
        if path.is_file()
    }
    (version / MANIFEST_FILE).write_text(json.dumps({"files": files, "recipe": "fast"}))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version with its manifest."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    write_manifest(tmp_path)
    return tmp_path


def test_files_that_are_as_they_were_exported(version: Path) -> None:
    """What nothing reads may lie beside them; a version may be a link, and so may its files."""
    (version / "README").write_text("")
    (version / "dangling").symlink_to("nowhere")
    (version / "variables").rename(version / "..data")
    (version / "variables").symlink_to("..data")
    link = version.parent / f"{version.name}-link"
    link.symlink_to(version)

    assert check_files(VersionDirectory(link)) == 4


def test_without_a_manifest_nothing_is_compared(version: Path) -> None:
    """A model that was made elsewhere has none."""
    (version / MANIFEST_FILE).unlink()

    assert check_files(VersionDirectory(version)) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda v: (v / "variables/a").write_text("This is variables/a"),
            "variables/a is not the file that was exported",
        ),
        (
            lambda v: (v / "variables/a").write_text("longer than it was"),
            "variables/a is not the file that was exported",
        ),
        (
            lambda v: (v / "saved_model.pb").unlink(),
            "saved_model.pb, which assets.extra/manifest.json names, is missing",
        ),
        (lambda v: (v / "variables/b").touch(), "variables/b is not among the files of assets.extra/manifest.json"),
        (lambda v: (v / "saved_model.cpb").touch(), "saved_model.cpb is not among the files of"),
        (lambda v: (v / WARMUP_FILE).touch(), f"{WARMUP_FILE} is not among the files of"),
        (lambda v: os.mkfifo(v / "pipe"), "pipe is no regular file: remove it"),
        (lambda v: (v / MANIFEST_FILE).write_text('{"files": {'), "assets.extra/manifest.json is damaged"),
        (lambda v: (v / MANIFEST_FILE).write_text("[]"), "assets.extra/manifest.json is damaged"),
        (lambda v: (v / MANIFEST_FILE).write_text("[" * 100_000), "assets.extra/manifest.json is damaged"),
        (
            lambda v: (v / MANIFEST_FILE).write_text('{"files": {"../a": {"sha256": "", "bytes": 1}}}'),
            "'../a' is no name of a file in the version",
        ),
    ],
    ids=[
        "differs",
        "longer",
        "missing",
        "more",
        "another graph",
        "a warmup",
        "a pipe",
        "half",
        "a list",
        "deep",
        "out",
    ],
)
def test_a_file_that_is_not_as_it_was_exported(version: Path, spoil: Callable[[Path], object], message: str) -> None:
    """Its name is told, without the server's path."""
    spoil(version)

    with pytest.raises(FailedPrecondition) as raised:
        check_files(VersionDirectory(version))

    assert message in str(raised.value)
    assert str(version) not in str(raised.value)


def test_a_loop_of_links_ends(version: Path) -> None:
    """It is looked at once."""
    (version / "loop").symlink_to(version)

    assert check_files(VersionDirectory(version)) == 4


def test_pipes_are_refused_without_a_manifest_too(version: Path) -> None:
    """Opening one would wait for ever."""
    shutil.rmtree(version / ASSETS_EXTRA)
    (version / "saved_model.pb").unlink()
    os.mkfifo(version / "saved_model.pb")

    with pytest.raises(FailedPrecondition, match=r"^saved_model.pb is no regular file: remove it$"):
        check_files(VersionDirectory(version))


def test_a_manifest_as_long_as_it_may_be(version: Path) -> None:
    """16 MiB are read; what is longer is cut, and so is damaged."""
    path = version / MANIFEST_FILE
    text = path.read_text()
    path.write_text(text[:-1].ljust(16 * 2**20 - 1) + text[-1])
    assert check_files(VersionDirectory(version)) == 4

    path.write_text(text[:-1].ljust(16 * 2**20) + text[-1])
    with pytest.raises(FailedPrecondition, match=r"manifest\.json is damaged"):
        check_files(VersionDirectory(version))
