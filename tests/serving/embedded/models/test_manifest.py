"""A version's files are held to its manifest before any of them is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fashion_common.layout import ASSETS_EXTRA, MANIFEST_FILE, WARMUP_FILE
from serving.embedded.models.manifest import check_files, is_whole, recorded_distribution
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
        (lambda v: (v / "fingerprint.pb").touch(), "fingerprint.pb is not among the files of"),
        (lambda v: (v / "model.tflite").touch(), "model.tflite is not among the files of"),
        (lambda v: (v / "assets/more").touch(), "assets/more is not among the files of"),
        (lambda v: os.mkfifo(v / "assets/pipe"), "assets/pipe is no regular file: remove it"),
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
        "a fingerprint",
        "another model",
        "an asset",
        "a pipe below",
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


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../a", "'../a' is no name of a file in the version"),
        ("/a", "'/a' is no name of a file in the version"),
        ("a/../b", "'a/../b' is no name of a file in the version"),
        ("./a", "'./a' is no name of a file in the version"),
        ("a\0b", "'a\\x00b' is no name of a file in the version"),
    ],
)
def test_a_manifest_that_leads_out_of_the_version(version: Path, name: str, error: str) -> None:
    """It is damaged, whatever else it says."""
    (version / MANIFEST_FILE).write_text(json.dumps({"files": {name: {"sha256": "", "bytes": 1}}}))
    with pytest.raises(FailedPrecondition) as raised:
        is_whole(VersionDirectory(version))
    assert str(raised.value) == f"{MANIFEST_FILE} is damaged (ValueError: {error}): copy the version again"


def test_the_texts_of_what_is_wrong(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what to do; the log has the path of what cannot be read."""
    directory = VersionDirectory(version)

    def text() -> tuple[str, str]:
        with pytest.raises(FailedPrecondition) as raised:
            check_files(directory)
        return str(raised.value), raised.value.log_text

    manifest = (version / MANIFEST_FILE).read_text()
    (version / MANIFEST_FILE).write_text('{"files": []}')
    assert text()[0] == (
        f"{MANIFEST_FILE} is damaged (AttributeError: 'list' object has no attribute 'items'): copy the version again"
    )
    (version / MANIFEST_FILE).write_text(manifest)
    (version / "variables/a").write_text("other")
    assert text()[0] == "variables/a is not the file that was exported (SHA-256 differs): copy the version again"
    (version / "variables/a").unlink()
    assert text()[0] == f"variables/a, which {MANIFEST_FILE} names, is missing: copy the version again"
    (version / "variables/a").symlink_to("nowhere")
    assert text()[0] == "a cannot be read: No such file or directory"
    assert text()[1] == f"[Errno 2] No such file or directory: '{version}/variables/a'"
    (version / "variables/a").unlink()
    (version / "variables/a").write_text("this is variables/a")
    (version / "variables/b").touch()
    assert text()[0] == (f"variables/b is not among the files of {MANIFEST_FILE}: remove it, or copy the version again")
    (version / "variables/b").unlink()
    opened: Any = Path.open

    def denied(path: Path, *arguments: str) -> object:
        if path.name == "manifest.json":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments)

    for method in ("open", "is_file"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, denied)
            assert text()[0] == f"{MANIFEST_FILE} is damaged (Permission denied): copy the version again"
            assert recorded_distribution(directory) is None


def test_a_manifest_of_names_that_no_disk_takes(version: Path) -> None:
    """Nothing has them: the version is not whole."""
    name = "a" * 256
    (version / MANIFEST_FILE).write_text(json.dumps({"files": {name: {"sha256": "", "bytes": 1}}}))
    assert is_whole(VersionDirectory(version)) is False
    with pytest.raises(FailedPrecondition, match=f"^{name[:30]}.*, which {MANIFEST_FILE} names, is missing: copy the"):
        check_files(VersionDirectory(version))


def test_a_version_is_whole_when_every_file_has_its_size(version: Path) -> None:
    """What is in them is looked at later; without a manifest nobody knows."""
    directory = VersionDirectory(version)
    assert is_whole(directory) is True
    (version / "variables/a").write_text("THIS IS VARIABLES/A")
    assert is_whole(directory) is True
    (version / "variables/a").write_text("this is variables/")
    assert is_whole(directory) is False
    (version / "variables/a").unlink()
    assert is_whole(directory) is False
    (version / MANIFEST_FILE).unlink()
    assert is_whole(directory) is None


def test_a_large_file_is_read_in_pieces(version: Path) -> None:
    """All of them count."""
    (version / "variables/a").write_bytes(bytes(2**20) + b"x")
    write_manifest(version)
    (version / MANIFEST_FILE).write_text(json.dumps(without_itself(version)))
    assert check_files(VersionDirectory(version)) == 4
    (version / "variables/a").write_bytes(bytes(2**20) + b"y")
    with pytest.raises(FailedPrecondition, match="variables/a is not the file"):
        check_files(VersionDirectory(version))


def without_itself(version: Path) -> dict[str, dict[str, object]]:
    """What the manifest says, of all other files."""
    files = json.loads((version / MANIFEST_FILE).read_text())["files"]
    files.pop(MANIFEST_FILE, None)
    return {"files": files}


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ({"classes": [3, 0], "confidence": [1] * 10}, ([3, 0], [1] * 10)),
        ({"classes": [1] * 100, "confidence": []}, ([1] * 100, [])),
        ({"classes": [], "confidence": []}, ([], [])),
        ({"classes": [1] * 101, "confidence": []}, None),
        ({"classes": [], "confidence": [1] * 101}, None),
        ({"classes": [3, -1], "confidence": [1]}, None),
        ({"classes": [3], "confidence": [-1]}, None),
        ({"classes": [3]}, None),
        ({"classes": 3, "confidence": []}, None),
        ({"classes": ["x"], "confidence": []}, None),
        ([], None),
    ],
)
def test_what_a_version_answered_to_the_test_set(
    version: Path, recorded: object, expected: tuple[list[int], list[int]] | None
) -> None:
    """Up to a hundred classes and bins; what makes no sense is not there."""
    (version / MANIFEST_FILE).write_text(json.dumps({"metrics": {"test_distribution": recorded}}))
    assert recorded_distribution(VersionDirectory(version)) == expected


def test_a_version_without_a_recorded_distribution(version: Path) -> None:
    """Its manifest has none, is none, or is not there."""
    directory = VersionDirectory(version)
    assert recorded_distribution(directory) is None
    (version / MANIFEST_FILE).write_text("{")
    assert recorded_distribution(directory) is None
    (version / MANIFEST_FILE).unlink()
    assert recorded_distribution(directory) is None
