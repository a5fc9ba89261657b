"""Files are whole or not there."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_common.files import sha256, whole_file, write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Text is UTF-8; nothing else is left beside it."""
    path = tmp_path / "new" / "file.json"
    write_whole(path, "é")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]
    write_whole(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"


@pytest.mark.parametrize(("mode", "expected"), [({}, 0o644), ({"mode": 0o600}, 0o600)], ids=["as ever", "secret"])
def test_who_may_read_a_file(tmp_path: Path, mode: dict[str, int], expected: int) -> None:
    """Everybody, unless it is said otherwise; the mode of what was there before does not count."""
    path = tmp_path / "file"
    path.touch(0o666)
    write_whole(path, "text", **mode)
    assert stat.S_IMODE(path.stat().st_mode) == expected


def test_a_file_that_is_being_written_lies_hidden_beside_its_place(tmp_path: Path) -> None:
    """It is on the same disk, and begins with a dot and the file's name; whatever ends the writing, it is gone then."""
    path = tmp_path / "new" / "file.json"
    names: list[str] = []

    def interrupted() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            names.extend(each.name for each in path.parent.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (hidden,) = names
    assert hidden.startswith(".file.json.")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_the_digest_of_a_file(tmp_path: Path, size: int) -> None:
    """Of all of it, however large it is."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert sha256(path) == hashlib.sha256(b"x" * size).hexdigest()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: the error passes on, the old content stays, no temporary file is left."""
    path = tmp_path / "file"
    write_whole(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash after the rename could leave an empty file; until then the old one is there."""
    path = tmp_path / "file"
    write_whole(path, "old")
    fsync, replace = os.fsync, Path.replace
    steps: list[tuple[str, str]] = []

    def synced(descriptor: int) -> None:
        steps.append(("synced", Path(f"/proc/self/fd/{descriptor}").read_text()))
        assert path.read_text() == "old"
        fsync(descriptor)

    def renamed(temporary: Path, target: Path) -> Path:
        steps.append(("renamed", temporary.read_text()))
        return replace(temporary, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(path, "new")
    assert steps == [("synced", "new"), ("renamed", "new")]
    assert path.read_text() == "new"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    """Also a link to a file that is not there yet."""
    target, link = tmp_path / "data" / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("first", "second"):
        write_whole(link, text)
        assert (link.is_symlink(), target.read_text()) == (True, text)
    assert list(target.parent.iterdir()) == [target]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """What is no regular file is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_device_is_an_error(tmp_path: Path) -> None:
    """By a link, so that nothing but the link is lost when the device is replaced after all."""
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(link, "text")
    assert str(link.readlink()) == "/dev/full"


@pytest.mark.parametrize("name", ["/proc/self/fd/1", "/dev/fd/1", "/dev/stdout"])
def test_standard_output_by_name_keeps_what_was_printed(tmp_path: Path, name: str) -> None:
    """`/dev/stdout` is appended to, also where it is a regular file."""
    program = (
        "from pathlib import Path; from fashion_common.files import write_whole; print('first', flush=True); "
        f"write_whole(Path('{name}'), 'second')"
    )
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
    assert out.read_text() == "first\nsecond"
