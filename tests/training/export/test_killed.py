"""Killed at any point, an export leaves whole versions only, and the next one cleans up."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from fashion_common.layout import version_directories
from tests.support.exports import invoke
from tests.support.killed import STEPS, Step, export_killed_at, forks_with
from training.export.manifest import check_files, read_manifest


@pytest.fixture(scope="module")
def base(exported_version: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model base path with one version; every kill finds what the ones before it left."""
    base = tmp_path_factory.mktemp("models") / "fashion_mnist"
    shutil.copytree(exported_version, base / "1")
    return base


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that find TensorFlow imported, so that each takes one second instead of four."""
    return forks_with("training.export.export", "training.export.trained")


def whole_versions(base: Path) -> list[int]:
    """The versions, after every one of them was compared with its digests."""
    versions = version_directories(base)
    for path in versions.values():
        manifest = read_manifest(path)
        assert manifest is not None, f"{path} has no manifest"
        assert check_files(path, manifest) >= 7
    return sorted(versions)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_killed_export_leaves_whole_versions_only(
    context: ForkServerContext, run: Path, base: Path, step: Step
) -> None:
    """Before the rename nothing has been published, after it all of it has; removing is as sudden."""
    before = whole_versions(base)
    process = context.Process(target=export_killed_at, args=(step, run, base))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    published = STEPS.index(step) >= STEPS.index(Step("pathlib", "Path.rename", after=True))
    removed = step == Step("pathlib", "Path.rename", call=2, after=True)
    assert whole_versions(base) == [*before[removed:], *([max(before) + 1] if published else [])]


@pytest.mark.usefixtures("steps_here")
def test_the_next_export_cleans_up(run: Path, base: Path) -> None:
    """What the killed ones left is gone, and the numbers go on."""
    leftover = base / ".export-killed"
    leftover.mkdir(exist_ok=True)
    (leftover / "saved_model.pb").write_bytes(b"half")
    before = whole_versions(base)
    assert invoke("export", run, "--model-base-path", base).exit_code == 0
    assert sorted(child.name for child in base.iterdir()) == sorted(map(str, [*before, max(before) + 1]))


def test_the_command_killed_while_it_writes_leaves_no_version(run: Path, tmp_path: Path) -> None:
    """`fashion export` as users run it: SIGKILL in the middle, at whatever it is doing then."""
    base = tmp_path / "fashion_mnist"
    command = [str(Path(sys.executable).with_name("fashion")), "export", str(run), "--model-base-path", str(base)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 120
    while not list(base.glob(".export-*/assets.extra")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the export did not begin to write"
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert version_directories(base) == {}
    assert len(list(base.iterdir())) == 1
