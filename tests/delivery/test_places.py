"""Files wherever they are: how they are named, listed, stamped and read, and what is said where that fails."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fsspec
import pytest

from delivery.address import is_address, printable
from delivery.errors import DeliveryError, SourceError
from delivery.places import Place, RemoteFile, source_errors, stamp
from tests.support.sources import Memory, memory  # noqa: F401


@pytest.fixture
def bucket(memory: type[Memory]) -> Place:  # noqa: F811
    """A place with two files, one of them deeper."""
    Memory().pipe({"/bucket/a": b"12345", "/bucket/deep/b": b"67"})
    return Place.of("flaky://bucket")


def test_a_place_is_told_as_it_is_found_again(bucket: Place, tmp_path: Path) -> None:
    """A path of this machine as a path, another with its protocol; a name is added behind one slash."""
    assert (str(bucket), bucket.is_local) == ("flaky:///bucket", False)
    assert str(bucket / "a") == str(Place(bucket.fs, "/bucket/") / "a") == "flaky:///bucket/a"
    here = Place.of(f"file://{tmp_path}/x")
    assert (str(here), here.is_local, here.shown) == (f"{tmp_path}/x", True, f"{tmp_path}/x")
    assert Place.of(str(tmp_path / "x")).path == here.path


def test_what_lies_there(bucket: Place) -> None:
    """Names and types of the next level, or all files by their names; a listing that was kept is not used."""
    assert bucket.children() == {"a": "file", "deep": "directory"}
    assert list(bucket.files()) == ["a", "deep/b"]
    assert [(file.path, file.size) for file in bucket.files().values()] == [("/bucket/a", 5), ("/bucket/deep/b", 2)]
    assert (bucket / "a").file()[:2] == ("/bucket/a", 5)
    assert (bucket / "a").file() == bucket.files()["a"]
    Memory().pipe_file("/bucket/c", b"")
    assert list(bucket.children()) == ["a", "deep", "c"]
    assert Place.of("flaky://bucket/deep/").files().keys() == {"b"}


class Listing:
    """A file system that lists what a test has it list; infos: what it tells of a file by itself."""

    def __init__(self, *found: dict[str, Any], infos: dict[str, dict[str, Any]] | None = None) -> None:
        self._found = found
        self._infos = infos or {}
        self.invalidated = 0

    def invalidate_cache(self) -> None:
        """Is told."""
        self.invalidated += 1

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]:
        """All of them."""
        assert (path, detail) == ("b/m", True)
        return {info["name"]: info for info in self._found}

    def ls(self, path: str, *, detail: bool) -> list[dict[str, Any]]:
        """All of them."""
        assert (path, detail) == ("b/m", True)
        return list(self._found)

    def info(self, path: str) -> dict[str, Any]:
        """What it tells of one."""
        return self._infos[path]

    def unstrip_protocol(self, path: str) -> str:
        """With the protocol."""
        return f"x://{path}"


def test_what_stands_for_a_folder_is_no_file() -> None:
    """An empty object whose name ends in a slash, a directory, or something else that the prefix matches."""
    found = [
        {"name": "b/m/", "type": "file", "size": 0},
        {"name": "b/m/dir", "type": "directory", "size": 0},
        {"name": "b/m/deep/", "type": "file", "size": 0},
        {"name": "b/mother", "type": "file", "size": 1},
        {"name": "b/m/file", "type": "file", "size": 3, "ETag": "e"},
        {"name": "b/m/empty", "type": "file", "size": 0},
    ]
    fs = Listing(*found)
    assert Place(fs, "b/m").files() == {
        "file": RemoteFile("b/m/file", 3, "3 e"),
        "empty": RemoteFile("b/m/empty", 0, "0"),
    }
    assert Place(fs, "b/m").children()["deep"] == "file"
    assert fs.invalidated == 2


def test_a_listing_without_sizes_is_asked_file_by_file() -> None:
    """As one over HTTP."""
    infos = {"b/m/a": {"size": 7, "mtime": 1.5}}
    fs = Listing({"name": "b/m/a", "type": "file", "size": None}, infos=infos)
    assert Place(fs, "b/m").files() == {"a": RemoteFile("b/m/a", 7, "7 1.5")}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"size": 3}, "3"),
        ({"size": 3, "ETag": "e", "LastModified": 1}, "3 e"),
        ({"size": 3, "etag": "f", "mtime": 1}, "3 f"),
        ({"size": 3, "mtime": 2.5, "created": 1.5}, "3 2.5"),
        ({"size": 3, "LastModified": datetime(2026, 1, 2, tzinfo=timezone.utc)}, "3 1767312000.0"),
        ({"size": 3, "last_modified": "x", "updated": "y"}, "3 x"),
        ({"size": 3, "updated": "y", "created": "z"}, "3 y"),
        ({"created": 1.5}, "None 1.5"),
    ],
)
def test_a_stamp_is_the_size_and_one_mark(facts: dict[str, Any], expected: str) -> None:
    """The tag of the content before the time of the last change."""
    assert stamp(facts) == expected


def test_bytes_are_read_by_ranges(bucket: Place) -> None:
    """A whole file without one; fewer or more than were asked for are an error."""
    file = (bucket / "a").file()
    assert bucket.piece(file, 0, 5) == b"12345"
    assert bucket.piece(file, 1, 3) == b"23"
    assert bucket.piece(file, 0, 4) == b"1234"
    assert (bucket / "a").read() == b"12345"
    assert (bucket / "none").read() is None
    Memory().pipe_file("/bucket/a", b"1234567")
    with pytest.raises(SourceError) as error:
        bucket.piece(file, 0, 5)
    assert str(error.value) == "flaky:///bucket/a gave 7 of 5 bytes: it has changed, or knows no ranges"
    Memory().pipe_file("/bucket/a", b"123")
    with pytest.raises(SourceError, match=r"gave 1 of 3 bytes"):
        bucket.piece(file, 2, 5)


def test_a_file_appears_whole(bucket: Place, tmp_path: Path) -> None:
    """Here and elsewhere; what breaks off leaves what was there."""
    for place in (bucket / "new", Place.of(str(tmp_path / "new"))):

        def breaking(place: Place = place) -> None:
            with place.whole() as file:
                file.write(b"half")
                raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            breaking()
        assert place.read() is None
        with place.whole() as file:
            file.write(b"whole")
        assert place.read() == b"whole"


def test_a_file_that_cannot_be_written(bucket: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the reason, and that the same command goes on."""
    (tmp_path / "file").touch()

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(Memory, "put_file", full)
    for place, reason in ((Place.of(f"{tmp_path}/file/new"), "File exists"), (bucket / "new", "no room")):
        with pytest.raises(DeliveryError) as error, place.whole() as file:
            file.write(b"1")
        assert str(error.value) == f"{place} cannot be written: {reason}: run the same command again when it can"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError("x"), "x://a: there is no such file or directory"),
        (ValueError("bad\nline"), r"x://a cannot be read: ValueError: bad\nline"),
        (ValueError(), "x://a cannot be read: ValueError"),
        (RuntimeError("at s3://key:secret@host/a?sig=1"), "x://a cannot be read: RuntimeError: at s3://host/a?"),
        (ValueError("y" * 2000), f"x://a cannot be read: {('ValueError: ' + 'y' * 2000)[:1000]}"),
    ],
)
def test_whatever_a_file_system_raises_is_one_line(error: Exception, text: str) -> None:
    """Without a secret, and without the cause, which may have some."""
    with pytest.raises(SourceError) as caught, source_errors("x://a"):
        raise error
    assert str(caught.value) == text
    assert caught.value.__suppress_context__


def test_an_address_has_a_protocol() -> None:
    """A path has none."""
    assert is_address("s3://bucket/a")
    assert not is_address("models/a:b")


def test_texts_from_elsewhere_are_printed_in_one_line() -> None:
    """Two hundred characters of them, unless more are asked for."""
    assert printable("a\tb\x1b[2J é") == r"a\tb\x1b[2J é"
    assert printable("a" * 300) == "a" * 200
    assert printable("a" * 300, 250) == "a" * 250


def test_file_systems_are_those_of_fsspec(memory: type[Memory]) -> None:  # noqa: F811
    """One that connects at once and fails is told without a secret, a thousand characters at most."""

    class Failing(Memory):
        """Cannot be made."""

        protocol = "failing"

        def __init__(self, **_: object) -> None:
            raise RuntimeError("failing://user:secret@host " + "y" * 2000)

    fsspec.register_implementation("failing", Failing, clobber=True)
    with pytest.raises(SourceError) as error:
        Place.of("failing://key@host/a")
    text = "failing://host/a cannot be read: RuntimeError: failing://host " + "y" * 2000
    assert str(error.value) == text[:1000]
