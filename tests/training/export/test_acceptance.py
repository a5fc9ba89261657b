"""What a model must reach to become a version, and which old versions go."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fashion_common.labels import labels_writer
from tests.support.console import PASSED
from tests.support.exports import children, invoke, manifest, with_accuracy

pytestmark = pytest.mark.usefixtures("steps_here")


def test_an_accuracy_below_the_minimum_is_refused_with_the_figures(run: Path, base: Path) -> None:
    """Nothing is written; --force publishes and is recorded."""
    demands = ("export", run, "--model-base-path", base, "--min-accuracy", 0.9)
    result = invoke(*demands)
    assert (result.exit_code, result.stdout) == (1, "")
    objection = "accuracy 0.8800 is below --min-accuracy 0.9"
    assert result.stderr == f"Error: Not exported: {objection} (--force exports it all the same)\n"
    assert not base.exists()
    forced = invoke(*demands, "--force")
    assert (forced.exit_code, forced.stdout) == (0, f"{base / '1'}\n")
    assert re.fullmatch(f"{PASSED}Forced: {re.escape(objection)}\n", forced.stderr)
    assert manifest(base / "1")["forced"] == [objection]


def test_a_version_worse_than_the_newest_is_refused_with_the_figures(run: Path, version: Path, tmp_path: Path) -> None:
    """By more than 0.01, or by what --max-regression says; only the version that it replaces counts."""
    base = version.parent
    worse = with_accuracy(run, tmp_path / "worse", 0.865)
    result = invoke("export", worse, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Not exported: accuracy 0.8650 is 0.0150 below version 1's 0.8800, more than --max-regression 0.01 "
        "(--force exports it all the same)\n"
    )
    allowed = invoke("export", worse, "--model-base-path", base, "--no-lite", "--max-regression", 0.02)
    assert (allowed.exit_code, allowed.stdout) == (0, f"{base / '2'}\n")
    assert manifest(base / "2")["replaced"] == {"version": 1, "accuracy": 0.88}
    still_worse = with_accuracy(run, tmp_path / "still-worse", 0.856)
    assert invoke("export", still_worse, "--model-base-path", base, "--no-lite").exit_code == 0
    assert children(base) == ["1", "2", "3"]


def test_figures_on_other_data_are_not_compared(run: Path, version: Path, tmp_path: Path) -> None:
    """A model of drawn garments does not silently replace one of the real images."""
    synthetic_run = with_accuracy(run, tmp_path / "synthetic", 1.0, name="synthetic")
    result = invoke("export", synthetic_run, "--model-base-path", version.parent)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Not exported: accuracy 1.0000 on synthetic cannot be compared with version 1's 0.8800 on fashion_mnist "
        "(--force exports it all the same)\n"
    )


def test_a_version_without_manifest_is_replaced_without_comparison(run: Path, base: Path) -> None:
    """There is no figure to be worse than."""
    (base / "3").mkdir(parents=True)
    (base / "3" / "saved_model.pb").write_bytes(b"made elsewhere")
    result = invoke("export", run, "--model-base-path", base, "--no-lite")
    assert (result.exit_code, result.stdout) == (0, f"{base / '4'}\n")


def test_keep_removes_old_versions_but_never_what_a_label_needs(run: Path, base: Path, version: Path) -> None:
    """Of six versions the newest two, the one labelled stable, and the one that stable would go back to stay."""
    for number in range(2, 6):
        shutil.copytree(version, base / str(number))
    with labels_writer(base) as writer:
        writer.move({"stable": 3}, action="label")
        writer.move({"stable": 2}, action="label")
    result = invoke("export", run, "--model-base-path", base, "--keep", 2)
    assert (result.exit_code, result.stdout) == (0, f"{base / '6'}\n")
    assert re.fullmatch(f"{PASSED}Removed: 1, 4\n", result.stderr)
    assert children(base) == ["2", "3", "5", "6", "labels.json"]


def test_damaged_labels_remove_nothing(run: Path, base: Path) -> None:
    """Which version is labelled is not known then: told before anything is written."""
    base.mkdir()
    (base / "labels.json").write_text("{")
    result = invoke("export", run, "--model-base-path", base, "--keep", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {base / 'labels.json'} is damaged (")
    assert children(base) == ["labels.json"]
