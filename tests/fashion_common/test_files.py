"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_common.files import write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Text is UTF-8; nothing else is left beside it."""
    path = tmp_path / "new" / "file.json"
    write_whole(path, "é")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


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
