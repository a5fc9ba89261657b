"""Model base paths are read through one module: the versions, their files, what tells that a file has changed."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_common.layout import BATCHING_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.apis.self_test import Case, write_archive
from serving.embedded.models import storage
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, NotFound
from tests.support.live import Server, running, wait_until

BASE_PATH = "/nowhere/models"
X = np.array([1.0, 4.0], np.float32)


def test_a_file_of_a_version(tmp_path: Path) -> None:
    """By its name in the directory; None for what is not there, and for a directory."""
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / SELF_TEST_FILE).touch()
    version = VersionDirectory(tmp_path)

    assert version.file(SELF_TEST_FILE) == tmp_path / SELF_TEST_FILE
    assert version.file(WARMUP_FILE) is None
    assert version.file("assets.extra") is None
    assert (str(version), version.local_path()) == (str(tmp_path), tmp_path)


def test_the_fingerprint_tells_what_has_changed(tmp_path: Path) -> None:
    """A file more, other contents or another time; reading changes nothing."""
    file = tmp_path / "variables" / "a"
    file.parent.mkdir()
    version = VersionDirectory(tmp_path)

    def fingerprint() -> object:
        version.look()
        return version.fingerprint

    fingerprints = [fingerprint()]

    file.write_bytes(b"one")
    fingerprints.append(fingerprint())
    file.read_bytes()
    assert fingerprint() == fingerprints[-1]
    file.write_bytes(b"three")
    fingerprints.append(fingerprint())
    os.utime(file, (1, 1))
    fingerprints.append(fingerprint())
    file.chmod(0)
    fingerprints.append(fingerprint())

    assert all(fingerprints.count(fingerprint) == 1 for fingerprint in fingerprints)


def test_a_repair_of_the_same_size_and_time_changes_the_fingerprint(tmp_path: Path) -> None:
    """As of a copy that keeps the times of its files: when it was made tells, which nobody can set."""
    file = tmp_path / "a"
    version = VersionDirectory(tmp_path)

    def write(data: bytes) -> None:
        file.write_bytes(data)
        os.utime(file, ns=(1, 10**18))

    write(b"broken")
    before, broken = version.current()[0], file.stat()
    # The file system's clock ticks every few milliseconds.
    while file.stat().st_ctime_ns == broken.st_ctime_ns:
        write(b"mended")

    mended = file.stat()
    assert (mended.st_size, mended.st_mtime_ns) == (broken.st_size, broken.st_mtime_ns)
    assert version.current()[0] != before


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("Cannot read {}/variables/a: no", "Cannot read variables/a: no"),
        (
            "Could not find SavedModel at: {}. Check it",
            "Could not find SavedModel at: the version's directory. Check it",
        ),
        ("[Errno 2] No such file: '/etc/pass wd'", "[Errno 2] No such file: '(path) wd'"),
        ("see https://www.tensorflow.org/a and x/y, 1 / 2", "see https://www.tensorflow.org/a and x/y, 1 / 2"),
    ],
)
def test_a_text_for_callers_has_no_paths(tmp_path: Path, text: str, public: str) -> None:
    """But for those of the version's own files, from its directory on."""
    directory = tmp_path / "a model" / "1"
    link = tmp_path / "link"
    link.symlink_to(directory)

    for path in (directory, link):
        assert VersionDirectory(path).public(text.format(path)) == public
    assert VersionDirectory(link).public(text.format(directory)) == public


def test_of_a_long_text_callers_see_the_beginning() -> None:
    """Ten thousand characters."""
    assert VersionDirectory(Path("/m/1")).public("x" * 10_001) == "x" * 10_000


def test_the_files_of_a_version(tmp_path: Path) -> None:
    """By their names in it, links followed, directories not among them; one that leads nowhere is itself."""
    (tmp_path / "v" / "a" / "b").mkdir(parents=True)
    (tmp_path / "v" / "a" / "b" / "c").write_text("123")
    (tmp_path / "v" / "up").symlink_to(tmp_path / "v")
    (tmp_path / "v" / "d").symlink_to("a/b")
    (tmp_path / "v" / "none").symlink_to("nowhere")
    files = VersionDirectory(tmp_path / "v").files()
    assert sorted(files) == ["a/b/c", "d/c", "none"]
    assert files["a/b/c"].st_size == files["d/c"].st_size == 3
    assert stat.S_ISLNK(files["none"].st_mode)
    with pytest.raises(FileNotFoundError):
        VersionDirectory(tmp_path / "missing").files()


def test_a_version_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """It has no fingerprint, and no time of its last change; what can be has the latest of all."""
    missing = VersionDirectory(tmp_path / "missing")
    missing.look()
    assert (missing.fingerprint, missing.changed) == (None, 0.0)
    assert missing.at_rest() is None
    (tmp_path / "a").touch()
    later = (tmp_path / "a").stat().st_ctime + 500
    os.utime(tmp_path / "a", (1, later))
    version = VersionDirectory(tmp_path)
    version.look()
    assert version.changed == pytest.approx(later)
    assert [entry[:3] for entry in version.current()[0] or ()][1] == ("a", 0, (tmp_path / "a").stat().st_mtime_ns)


def test_links_across_are_followed_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They can make endlessly many names."""
    for number in range(4):
        (tmp_path / str(number)).touch()
    version = VersionDirectory(tmp_path)
    monkeypatch.setattr(storage, "_MAX_ENTRIES", 6)
    assert len(version.files()) == 4
    monkeypatch.setattr(storage, "_MAX_ENTRIES", 5)
    with pytest.raises(OSError, match=re.escape(f"more than 5 files and links: '{tmp_path}'")):
        version.files()


def test_a_version_is_at_rest_a_moment_after_its_last_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fiftieth of a second, by the system's clock; one of another machine's clock is not waited for."""
    (tmp_path / "a").touch()
    version = VersionDirectory(tmp_path)
    changed = max(status.st_ctime_ns for status in (tmp_path.stat(), (tmp_path / "a").stat())) / 1e9
    now, slept = [changed], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds / 2 if len(slept) < 60 else 0

    monkeypatch.setattr(storage, "time", SimpleNamespace(time=lambda: now[0], sleep=sleep))
    assert version.at_rest() == version.current()[0]
    assert slept == [0.02] * 3
    now[0], slept[:] = changed - 1, []
    assert version.at_rest() == version.current()[0]
    assert slept == []
    now[0], slept[:] = changed, [0.0] * 60
    with pytest.raises(FailedPrecondition) as raised:
        version.at_rest()
    assert str(raised.value) == "The version's files go on changing: it is loaded when they are at rest"
    assert len(slept) == 60 + 50


@pytest.mark.parametrize(
    ("is_there", "log_text"),
    [
        (False, "Could not find base path {}: create it, or correct the path"),
        (True, "No versions of m under {0}: expected numeric folders such as {0}/1"),
    ],
)
def test_what_callers_are_told_of_a_base_path(tmp_path: Path, is_there: bool, log_text: str) -> None:
    """The same, whatever is wrong with it."""
    base = tmp_path / "base"
    if is_there:
        base.mkdir()
    with pytest.raises(NotFound) as raised:
        storage.versions("m", str(base))
    assert str(raised.value) == "No versions of model m can be read under its base path: the server's log says why"
    assert raised.value.log_text == log_text.format(base)
    assert storage.is_readable(str(base)) is is_there


def test_a_model_without_a_version_directory(tmp_path: Path) -> None:
    """The often-made mistake is recognized."""
    (tmp_path / "saved_model.pb").write_bytes(b"")

    with pytest.raises(FailedPrecondition) as raised:
        storage.versions("m", str(tmp_path))
    assert re.search(r"holds saved_model.pb itself: .* Move the model to .*/1", raised.value.log_text)
    assert str(tmp_path) not in str(raised.value)


def test_a_file_for_a_base_path(tmp_path: Path) -> None:
    """A base path is a directory."""
    (tmp_path / "file").write_text("")

    with pytest.raises(NotFound) as raised:
        storage.versions("m", str(tmp_path / "file"))
    assert "is not a directory" in raised.value.log_text
    assert not storage.is_readable(str(tmp_path / "file"))


def wrong_warmup(version: Path) -> None:
    """A warmup file that is no TFRecord."""
    (version / WARMUP_FILE).parent.mkdir()
    (version / WARMUP_FILE).write_bytes(b"no records at all")


def wrong_self_test(version: Path) -> None:
    """Golden outputs that the model does not give."""
    write_archive(version / SELF_TEST_FILE, {"serving_default": Case({"x": X}, {"y": X})})


def wrong_batching(version: Path) -> None:
    """Batching parameters that cannot be."""
    (version / BATCHING_FILE).write_text("max_batch_size { value: 0 }")


def wrong_model(version: Path) -> None:
    """No SavedModel."""
    (version / "saved_model.pb").write_bytes(b"no model")


def test_the_server_reaches_base_paths_through_storage_alone(toys: Path, tmp_path: Path) -> None:
    """It works where only storage can reach the files: listing, loading, warmup, self-test, batching, and a mend."""
    model = tmp_path / "m"
    first = model / "1"
    shutil.copytree(toys / "half_plus_two" / "1", first)
    write_archive(first / SELF_TEST_FILE, {"serving_default": Case({"x": X}, {"y": X / 2 + 2})})
    flags = ("--model_name=m", f"--model_base_path={BASE_PATH}/m", "--file_system_poll_wait_seconds=0.05", "--verbose")
    batching = ("--enable_batching", "--enable_per_model_batching_parameters", "--max_num_load_retries=0")
    program = ("-m", "tests.support.other_storage", BASE_PATH, str(tmp_path))
    spoilers: list[Callable[[Path], None]] = [wrong_warmup, wrong_self_test, wrong_batching, wrong_model]
    with running(*flags, *batching, program=program) as server:
        assert "m version 1: 0 warmup requests, self-test of ['serving_default']" in server.log.read_text()
        for number, spoil in enumerate(spoilers, 2):
            aside = tmp_path / str(number)
            shutil.copytree(toys / "half_plus_two" / "1", aside)
            spoil(aside)
            aside.rename(model / str(number))
            wait_until(partial(has_settled, server, number))
        assert states(server) == {1: "AVAILABLE", 2: "END", 3: "END", 4: "END", 5: "END"}
        shutil.copy(toys / "half_plus_two" / "2" / "saved_model.pb", model / "5" / "saved_model.pb")
        wait_until(lambda: states(server)[5] == "AVAILABLE")


def has_settled(server: Server, version: int) -> bool:
    """Whether a version was loaded, or has failed."""
    return states(server).get(version) in ("AVAILABLE", "END")


def states(server: Server) -> dict[int, str]:
    """The state of each version of m."""
    statuses: list[dict[str, Any]] = httpx.get(f"http://{server.rest}/v1/models/m").json()["model_version_status"]
    return {int(status["version"]): status["state"] for status in statuses}
