"""`fashion versions`: what lies under the model base path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from delivery.base_path import remove_old_versions
from fashion_common.labels import labels_writer
from fashion_common.layout import version_directories
from tests.support.exports import invoke
from training.export.manifest import write_manifest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Versions 2 and 10 as exported, 3 changed since, 7 made elsewhere."""
    base = tmp_path / "fashion_mnist"
    for number, accuracy in ((2, 0.8712), (3, 0.88), (10, 0.8853)):
        facts = {"accuracy": accuracy, "recipe": "fast", "self_test": {"tolerance": 1e-5, "largest_differences": {}}}
        make_version(base / str(number))
        if number == 10:
            (base / "10" / "model.tflite").touch()
        write_manifest(base / str(number), facts)
        set_date(base / str(number))
    (base / "3" / "saved_model.pb").write_bytes(b"changed" * 50)
    make_version(base / "7", "saved_model.pbtxt")
    (base / ".export-abc").mkdir()
    (base / "notes").mkdir()
    return base


def make_version(path: Path, model: str = "saved_model.pb") -> None:
    """A version of 500 kB without a manifest."""
    path.mkdir(parents=True)
    (path / model).write_bytes(bytes(499_700))


def set_date(path: Path) -> None:
    """Gives the version's manifest a date that does not change."""
    file = path / "assets.extra" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"exported_at": "2026-01-02T03:04:05+00:00"}))


def described(base: Path, number: int, **facts: Any) -> dict[str, Any]:
    """One version as --json prints it."""
    path = base / str(number)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    unknown: dict[str, Any] = {
        "accuracy": None,
        "recipe": None,
        "exported_at": None,
        "self_test": "unknown",
        "runtimes": ["tensorflow"],
        "labels": [],
        "promoted_at": None,
        "loaded": [],
    }
    return unknown | {"version": number, "path": str(path), "size": size} | facts


def test_versions_are_listed_newest_first(base: Path) -> None:
    """Number, accuracy, recipe, date, size, self-test, runtimes, labels, and when; what is not known is a dash."""
    move = {"time": "2026-03-04T05:06:07+00:00", "before": None, "after": 2, "action": "label", "reason": ""}
    labels = {"labels": {"stable": 2, "first": 2}, "history": [move | {"label": "stable"}, move | {"label": "first"}]}
    (base / "labels.json").write_text(json.dumps(labels))
    result = invoke("versions", "--model-base-path", base)
    assert (result.exit_code, result.stderr) == (0, "")
    head = "version  accuracy  recipe  exported          size    self-test  runtimes            labels         "
    assert result.stdout == (
        f"{head}promoted          loaded\n"
        "10       0.8853    fast    2026-01-02 03:04  500 kB  passed     tensorflow, litert  canary         "
        "-                 -\n"
        "7        -         -       -                 500 kB  unknown    tensorflow          -              "
        "-                 -\n"
        "3        -         -       -                 1 kB    damaged    tensorflow          -              "
        "-                 -\n"
        "2        0.8712    fast    2026-01-02 03:04  500 kB  passed     tensorflow          first, stable  "
        "2026-03-04 05:06  -\n"
    )


def test_versions_as_json(base: Path) -> None:
    """The same facts, sizes in bytes."""
    result = invoke("versions", "--model-base-path", base, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    exported = {"recipe": "fast", "exported_at": "2026-01-02T03:04:05+00:00", "self_test": "passed"}
    assert json.loads(result.stdout) == [
        described(base, 10, accuracy=0.8853, runtimes=["tensorflow", "litert"], labels=["canary"], **exported),
        described(base, 7, labels=["stable"]),
        described(base, 3, self_test="damaged"),
        described(base, 2, accuracy=0.8712, **exported),
    ]


@pytest.mark.parametrize(
    ("exists", "reason"),
    [
        (True, "No versions of fashion_mnist under {base}: expected numeric folders such as {base}/1"),
        (False, "Could not find base path {base}: create it, or correct the path"),
    ],
    ids=["empty", "missing"],
)
def test_no_versions_says_what_is_expected(tmp_path: Path, exists: bool, reason: str) -> None:
    """One line, exit code 2."""
    base = tmp_path / "fashion_mnist"
    if exists:
        base.mkdir()
    result = invoke("versions", "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: {reason.format(base=base)}. `fashion export` writes the first version\n"


def test_removing_keeps_the_newest_and_those_in_use(base: Path) -> None:
    """By number, not by name: 10 is newer than 7."""
    with labels_writer(base) as writer:
        writer.move({"blue": 3}, action="label")
    assert remove_old_versions(base, keep=1) == [2, 7]
    assert sorted(version_directories(base)) == [3, 10]
    assert not list(base.glob(".export-*"))


def test_removing_fewer_than_there_are_to_keep_removes_nothing(base: Path) -> None:
    """Four versions, ten to keep."""
    assert remove_old_versions(base, keep=10) == []
    assert sorted(version_directories(base)) == [2, 3, 7, 10]
