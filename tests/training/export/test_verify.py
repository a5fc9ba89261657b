"""`fashion export --verify`: a version is tested where it arrived."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.console import AGREEMENT
from tests.support.exports import invoke

pytestmark = pytest.mark.usefixtures("steps_here")


def test_verify_tests_a_version_where_it_arrived(exported_version: Path, tmp_path: Path) -> None:
    """A whole copy passes, with its figures as text or JSON."""
    copy = shutil.copytree(exported_version, tmp_path / "arrived" / "12")
    result = invoke("export", "--verify", copy)
    expected = rf"{copy}: 7 files as exported; {AGREEMENT}"
    assert result.exit_code == 0
    assert re.fullmatch(expected, result.output)
    as_json = json.loads(invoke("export", "--verify", copy, "--json").stdout)
    assert (as_json["path"], as_json["files"]) == (str(copy), 7)
    assert (len(as_json["differences"]), len(as_json["litert_differences"])) == (4, 2)


def flip_bit(path: Path) -> None:
    """Changes one bit in the middle of a file, and nothing that its directory shows."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda path: (path / "variables/variables.index").unlink(),
            "{path}/variables/variables.index is missing: copy",
        ),
        (
            lambda path: (path / "saved_model.pb").write_bytes(b""),
            "{path}/saved_model.pb is not the file that was exported (SHA-256 differs): copy the version again",
        ),
        (
            lambda path: flip_bit(path / "variables/variables.data-00000-of-00001"),
            "{path}/variables/variables.data-00000-of-00001 is not the file that was exported (SHA-256 differs): copy",
        ),
        (
            lambda path: flip_bit(path / "model.tflite"),
            "{path}/model.tflite is not the file that was exported (SHA-256 differs): copy the version again",
        ),
        (
            lambda path: (path / "assets.extra/manifest.json").write_text("{"),
            "The manifest {path}/assets.extra/manifest.json is damaged (",
        ),
        (
            lambda path: (path / "assets.extra/manifest.json").write_text("[]"),
            "The manifest {path}/assets.extra/manifest.json is no JSON object: export or copy the version again",
        ),
        (
            lambda path: (path / "assets.extra/manifest.json").write_text(
                '{"files": {"../../secret": {"sha256": ""}}}'
            ),
            "The manifest of {path} names ../../secret, a file outside of the version",
        ),
        (shutil.rmtree, "No version at {path}: name a version's directory such as "),
    ],
    ids=["missing", "changed", "one bit", "one bit for LiteRT", "manifest", "a list", "outside", "nothing"],
)
def test_verify_refuses_a_version_that_arrived_damaged(
    base: Path, version: Path, damage: Callable[[Path], object], expected: str
) -> None:
    """The message names the file."""
    damage(version)
    result = invoke("export", "--verify", version)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {expected.format(path=version)}")
