"""The layout of a model base path: which children are versions, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_common.errors import EXIT_USAGE, BasePathError, MisplacedModelError, UnreadableBasePathError
from fashion_common.layout import check_base_path, version_directories, version_number


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("0", 0),
        ("3", 3),
        ("00000123", 123),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("0" * 18 + "7", 7),
        ("0" * 20, None),
        ("", None),
        ("-3", None),
        ("+3", None),
        ("1.5", None),
        ("1_000", None),
        (" 3", None),
        ("3\n", None),
        (".export-3", None),
        ("\N{ARABIC-INDIC DIGIT THREE}", None),
        ("\N{SUPERSCRIPT TWO}", None),
    ],
)
def test_a_version_is_named_by_ascii_digits(name: str, version: int | None) -> None:
    """As many as an int64 has; digits of other scripts, which int() would read, are none."""
    assert version_number(name) == version


def test_versions_are_the_directories_that_have_a_number_for_a_name(tmp_path: Path) -> None:
    """Files and other names are passed over; a base path that is not there has no versions."""
    for name in ("10", "2", "\N{ARABIC-INDIC DIGIT THREE}", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "9").write_text("a file")

    assert version_directories(tmp_path) == {2: tmp_path / "2", 10: tmp_path / "10"}
    (tmp_path / "002").mkdir()
    assert version_directories(tmp_path)[2] == tmp_path / "2"
    assert version_directories(tmp_path / "9") == {}
    assert version_directories(tmp_path / "missing") == {}


def test_a_base_path_with_versions_passes(tmp_path: Path) -> None:
    """It gives them."""
    (tmp_path / "7").mkdir()

    assert check_base_path("m", tmp_path) == {7: tmp_path / "7"}


def test_a_base_path_without_versions_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    """Missing, no directory, empty: one text each, exit code 2."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    expected = {
        "missing": f"Could not find base path {tmp_path}/missing: create it, or correct the path",
        "file": f"{tmp_path}/file is not a directory: a base path is a directory of numbered versions",
        "empty": f"No versions of m under {tmp_path}/empty: expected numeric folders such as {tmp_path}/empty/1",
    }

    for name, text in expected.items():
        with pytest.raises(BasePathError) as caught:
            check_base_path("m", tmp_path / name)
        assert (str(caught.value), caught.value.exit_code) == (text, EXIT_USAGE)
        assert not isinstance(caught.value, MisplacedModelError)


@pytest.mark.parametrize("file", ["saved_model.pb", "saved_model.pbtxt", "model.tflite"])
def test_a_model_where_its_versions_should_be_is_recognized(tmp_path: Path, file: str) -> None:
    """The mistake is often made: the text says where the model belongs."""
    (tmp_path / file).write_bytes(b"")

    with pytest.raises(MisplacedModelError) as caught:
        check_base_path("m", tmp_path)

    assert str(caught.value) == (
        f"{tmp_path} holds {file} itself: a base path holds numbered versions. "
        f"Move the model to {tmp_path}/1, or give the parent when {tmp_path.name} is the version"
    )


def test_a_base_path_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own reason, not that the path is missing."""

    def denied(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)

    with pytest.raises(UnreadableBasePathError, match=f"^Cannot read base path {tmp_path}: Permission denied$"):
        check_base_path("m", tmp_path)

    def unknown(_path: Path) -> None:
        raise OSError("stale")

    monkeypatch.setattr(Path, "iterdir", unknown)

    with pytest.raises(UnreadableBasePathError, match=f"^Cannot read base path {tmp_path}: stale$"):
        check_base_path("m", tmp_path)
