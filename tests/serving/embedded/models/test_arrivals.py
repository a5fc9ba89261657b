"""Version directories that are being copied: when each is taken as whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from fashion_common.layout import MANIFEST_FILE
from serving.embedded.models import arrivals
from serving.embedded.models.arrivals import Arrivals
from serving.embedded.models.storage import VersionDirectory


class Clock:
    """The monotonic clock and the system's, which go together until the latter jumps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.start = time.time()
        self.jump = 0.0

    def monotonic(self) -> float:
        """In seconds."""
        return self.now

    def time(self) -> float:
        """In seconds since 1970."""
        return self.start + self.now - 1000.0 + self.jump


class Base:
    """A base path with one version, 1, and who looks at it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path / "1"
        self.path.mkdir()
        self.clock = clock
        self.arrivals = Arrivals(1.0)

    def write(self, **files: str) -> None:
        """Writes files; __ stands for /, and _ for a dot."""
        for name, text in files.items():
            file = self.path / name.replace("__", "/").replace("_pb", ".pb")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    def write_manifest(self, files: Mapping[str, str]) -> None:
        """Writes the manifest of these files."""
        recorded = {
            name: {"sha256": sha256(text.encode()).hexdigest(), "bytes": len(text)} for name, text in files.items()
        }
        (self.path / MANIFEST_FILE).parent.mkdir(exist_ok=True)
        (self.path / MANIFEST_FILE).write_text(json.dumps({"files": recorded}))

    def is_whole(self, seconds: float = 0.0, *, failed: bool = False) -> bool:
        """Whether the version is, so many seconds later."""
        self.clock.now += seconds
        return self.arrivals.is_whole(1, VersionDirectory(self.path), failed=failed)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """On a clock that stands still."""
    clock = Clock()
    monkeypatch.setattr(arrivals, "time", clock)
    return Base(tmp_path, clock)


def test_with_a_complete_manifest_at_once(base: Base) -> None:
    """However new its files are."""
    base.write(saved_model_pb="graph")
    base.write_manifest({"saved_model.pb": "graph"})

    assert base.is_whole()


def test_what_is_old_at_once(base: Base) -> None:
    """A server that starts is not held up."""
    base.write(saved_model_pb="graph")

    assert base.is_whole(3.0)


def test_a_directory_that_is_gone_is_forgotten(base: Base) -> None:
    """When it comes again it is looked at anew; those that are still there are not."""
    base.write(saved_model_pb="graph")
    assert base.is_whole(3.0)
    base.write(saved_model_pb="other")
    base.arrivals.forget_all_but([1, 2])
    assert base.is_whole()
    base.arrivals.forget_all_but([2])
    base.clock.jump = -3.0
    assert not base.is_whole()
    assert not base.arrivals.grows(1)
    assert not base.arrivals.grows(7)


def test_what_lacks_something_is_old_later(base: Base) -> None:
    """After five seconds at once, since its model may be on its way."""
    base.write(variables__data="weights")
    assert not base.is_whole(4.5)
    base.arrivals = Arrivals(1.0)
    assert base.is_whole(1.0)


def test_what_has_grown_is_not_old_until_it_has_rested(base: Base) -> None:
    """However old its files say they are: a copy may keep their times."""
    base.write(saved_model_pb="graph")
    assert not base.is_whole()
    base.write(variables__a="a")
    for path in (base.path / "saved_model.pb", base.path / "variables/a"):
        os.utime(path, (1, 1))
    assert [base.is_whole(1.0), base.is_whole(4.0), base.is_whole(0.9), base.is_whole(0.1)] == [
        False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "seconds"), [("saved_model.pb", 2.0), ("variables", 5.0)])
def test_when_files_are_old(base: Base, monkeypatch: pytest.MonkeyPatch, name: str, seconds: float) -> None:
    """After two seconds, to the moment; where the model is missing after five."""
    (base.path / name).touch()
    directory = VersionDirectory(base.path)
    directory.look()
    for age, is_old in ((seconds, True), (seconds - 0.001, False)):
        now = directory.changed + age
        monkeypatch.setattr(base.clock, "time", lambda now=now: now)
        assert Arrivals(1.0).is_whole(1, directory, failed=False) is is_old


def test_what_is_not_quite_so_old_is_looked_at_twice(base: Base) -> None:
    """It may still be written to."""
    base.write(saved_model_pb="graph")

    assert [base.is_whole(1.9), base.is_whole(1.0)] == [False, True]


def test_without_a_manifest_at_the_second_look(base: Base) -> None:
    """When nothing has changed since the first."""
    base.write(saved_model_pb="graph")

    assert [base.is_whole(), base.is_whole(1.0)] == [False, True]


def test_what_grows_is_waited_for(base: Base) -> None:
    """Until it has been at rest for a while: copies have pauses."""
    base.write(saved_model_pb="graph")
    looks = [base.is_whole()]
    for size in range(1, 4):
        base.write(variables__a="a" * size)
        looks += [base.is_whole(1.0), base.is_whole(1.0), base.is_whole(2.5)]

    assert looks == [False] * 10
    assert base.arrivals.grows(1)
    assert base.is_whole(1.6)


def test_a_slow_copy_whose_self_test_comes_last(base: Base) -> None:
    """Its manifest, which came before, tells that it is not whole."""
    base.write(saved_model_pb="graph")
    base.write_manifest({"saved_model.pb": "graph", "assets.extra/self_test.npz": "golden"})

    assert [base.is_whole(), base.is_whole(2.0), base.is_whole(2.0)] == [False, False, False]
    (base.path / "assets.extra" / "self_test.npz").write_text("gold")
    assert not base.is_whole(2.0)
    (base.path / "assets.extra" / "self_test.npz").write_text("golden")
    assert base.is_whole()


def test_a_slow_copy_whose_manifest_comes_last(base: Base) -> None:
    """It is seen growing, so that pauses of some seconds do not end it; its manifest does."""
    base.write(saved_model_pb="graph")
    looks = [base.is_whole()]
    base.write(variables__data="weights")
    looks += [base.is_whole(0.5), base.is_whole(2.0), base.is_whole(2.0)]
    base.write(variables__index="names")

    assert [*looks, base.is_whole(0.5), base.is_whole(4.0)] == [False] * 6
    base.write_manifest({"saved_model.pb": "graph", "variables/data": "weights", "variables/index": "names"})
    assert base.is_whole()


def test_what_never_becomes_whole_is_taken_as_it_is(base: Base) -> None:
    """So that its load says what is wrong; without a graph, with files missing, with half a manifest."""
    assert [base.is_whole(), base.is_whole(4.9), base.is_whole(0.1)] == [False, False, True]
    (base.path / "assets.extra").mkdir()
    (base.path / MANIFEST_FILE).write_text('{"files": {')
    base.arrivals = Arrivals(1.0)
    assert [base.is_whole(), base.is_whole(5.0)] == [False, True]


def test_what_may_not_be_searched_is_taken_as_it_is(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its load says so."""

    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    base.write(saved_model_pb="graph")
    monkeypatch.setattr(Path, "is_file", denied)

    assert [base.is_whole(), base.is_whole(4.9), base.is_whole(0.1)] == [False, False, True]


def test_what_has_been_taken_stays(base: Base) -> None:
    """Whatever becomes of its files, while it is loaded."""
    base.write(saved_model_pb="graph")
    taken = base.is_whole(3.0)
    base.write(saved_model_pb="other")

    assert taken
    assert base.is_whole()


def test_what_has_failed_is_taken_again_when_it_is_mended(base: Base) -> None:
    """And at rest; unchanged, it stays as it was."""
    base.write(saved_model_pb="half")
    assert base.is_whole(3.0)
    assert base.is_whole(failed=True)
    base.write(saved_model_pb="whole")
    base.clock.jump = -3.0  # files are written by the real clock

    assert [base.is_whole(failed=True), base.is_whole(1.0, failed=True)] == [False, True]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_the_systems_clock_may_jump(base: Base, jump: float) -> None:
    """It never keeps a version from being loaded."""
    base.write(saved_model_pb="graph")
    first = base.is_whole()
    base.clock.jump = jump

    assert not first
    assert base.is_whole(1.0)


def test_files_from_the_future(base: Base) -> None:
    """A file server's clock may be ahead."""
    base.write(saved_model_pb="graph")
    later = base.clock.time() + 3600
    os.utime(base.path / "saved_model.pb", (later, later))

    assert [base.is_whole(), base.is_whole(1.0)] == [False, True]
