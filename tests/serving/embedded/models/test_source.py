"""What the file-system source makes of base paths and policies."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.apis.messages import ModelConfig
from serving.embedded.models import source, storage
from serving.embedded.models.arrivals import Arrivals
from serving.embedded.models.source import Aspired, FileSystemSource
from serving.errors import StillLoading, Unavailable
from tests.support.live import wait_until


def aspired(config: ModelConfig) -> Aspired:
    """What the policy wants of directories that are whole as they are."""
    return source.aspired(config, Arrivals(0.0))


def config(base: Path, policy: str = "") -> ModelConfig:
    """The configuration of a model m."""
    return text_format.Parse(policy, ModelConfig(name="m", base_path=str(base)))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with versions 1, 2, 7 and 123, and things that are none."""
    for name in ("1", "2", "7", "00000123", "tmp", "1.5", "-3", ".8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "9").write_text("a file")
    return tmp_path


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", [123]),
        ("model_version_policy { latest { } }", [123]),
        ("model_version_policy { latest { num_versions: 2 } }", [7, 123]),
        ("model_version_policy { all { } }", [1, 2, 7, 123]),
        ("model_version_policy { specific { versions: 2 versions: 7 } }", [2, 7]),
    ],
)
def test_policies(base: Path, policy: str, versions: list[int]) -> None:
    """latest 1 is the default; whatever is not a directory with a number for a name is skipped."""
    result = aspired(config(base, policy))

    assert result.versions is not None
    assert sorted(result.versions) == versions
    assert result.error is None


def test_a_specific_version_that_is_missing_is_told(base: Path) -> None:
    """The others are served all the same."""
    result = aspired(config(base, "model_version_policy { specific { versions: 1 versions: 5 } }"))

    assert list(result.versions or ()) == [1]
    assert str(result.error) == "Version 5 of m, which its policy names, is not there"
    assert result.error
    assert result.error.log_text == f"{result.error}: under {base} there are 1, 2, 7, 123"


def test_a_policy_without_a_version_is_told(base: Path) -> None:
    """Otherwise nobody would know why nothing is served."""
    result = aspired(config(base, "model_version_policy { specific { } }"))

    assert result.versions == {}
    assert str(result.error) == "The policy of model m names no version"


def test_a_missing_base_path(tmp_path: Path) -> None:
    """It unloads nothing, and the log's text has the fix."""
    missing = tmp_path / "missing"

    result = aspired(config(missing))

    assert result.versions is None
    assert result.error
    assert result.error.log_text == f"Could not find base path {missing}: create it, or correct the path"


def test_a_base_path_that_cannot_be_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of descriptors, or of its disk: it may hold what is served, which stays."""

    def fail(_path: Path) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "iterdir", fail)

    result = aspired(config(base))

    assert result.versions is None
    assert isinstance(result.error, Unavailable)
    assert result.error.log_text == f"Cannot read base path {base}: Too many open files"


def test_an_empty_base_path(tmp_path: Path) -> None:
    """It unloads all; the path and the fix are in the log, and not in the text for callers."""
    result = aspired(config(tmp_path))

    assert result.versions == {}
    assert result.error
    assert str(result.error) == ("No versions of model m can be read under its base path: the server's log says why")
    fix = f"No versions of m under {tmp_path}: expected numeric folders such as {tmp_path}/1"
    assert result.error.log_text == fix


def test_a_model_that_is_configured_no_more_aspires_to_nothing(base: Path) -> None:
    """So the manager unloads it."""
    reports: list[tuple[str, Aspired]] = []
    watch = FileSystemSource(lambda name, result: reports.append((name, result)))

    watch.set_models({"m": config(base)})
    watch.set_models({})

    assert [name for name, _ in reports] == ["m", "m"]
    assert reports[1][1] == Aspired({})


def looking() -> set[threading.Thread]:
    """The threads that look at base paths: others of the process begin and end at any time."""
    return {thread for thread in threading.enumerate() if thread.name == "look"}


def test_a_base_path_that_hangs_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once; what is loaded from it stays; when it answers again it is looked at again."""
    gate = threading.Event()
    versions = storage.versions

    def slow(name: str, base_path: str) -> dict[int, storage.VersionDirectory]:
        if base_path.endswith("hangs"):
            assert gate.wait(10)
        return versions(name, base_path)

    monkeypatch.setattr(storage, "versions", slow)
    monkeypatch.setattr(source, "_LOOK_SECONDS", 0.1)
    reports: dict[str, Aspired] = {}
    watch = FileSystemSource(reports.__setitem__, settle_seconds=0)
    for name in ("hangs", "m"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").touch()

    watch.set_models({name: config(tmp_path / name) for name in ("hangs", "m")})
    assert reports["hangs"].versions is None
    assert str(reports["hangs"].error) == "The base path of model hangs does not answer"
    assert list(reports["m"].versions or ()) == [1]

    before = looking()
    assert before
    for _ in range(2):
        watch.poll()
        assert not looking() - before
    gate.set()
    wait_until(lambda: watch.poll() is None and bool(reports["hangs"].versions))


def test_work_below_a_base_path_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the caller is told so, and the next one is not held up by it."""
    gate = threading.Event()
    watch = FileSystemSource(lambda *_: None, settle_seconds=0)
    assert watch.bounded(lambda: 1) == 1
    with monkeypatch.context() as patch:
        patch.setattr(source, "_LOOK_SECONDS", 0.05)
        with pytest.raises(Unavailable, match=r"The disk has not answered within 0\.05 seconds"):
            watch.bounded(lambda: gate.wait(10))
    assert watch.bounded(lambda: 2) == 2
    gate.set()


def test_the_log_lists_the_newest_hundred_versions(tmp_path: Path) -> None:
    """Of those that are there when one is missing."""
    for number in range(1, 102):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "saved_model.pb").touch()
    result = aspired(config(tmp_path, "model_version_policy { specific { versions: 1 versions: 200 } }"))
    assert result.error is not None
    assert result.error.log_text.endswith(f"there are {', '.join(map(str, range(2, 102)))}")


def test_as_many_versions_as_the_policy_wants(base: Path) -> None:
    """At least one; a version that is still being copied takes the place of none that is whole."""
    assert list(aspired(config(base, "model_version_policy { latest { num_versions: 0 } }")).versions or ()) == [123]
    arrivals = Arrivals(1.0)
    waiting = source.aspired(config(base, "model_version_policy { all { } }"), arrivals)
    assert (waiting.versions, waiting.waits) == (None, True)
    assert isinstance(waiting.error, StillLoading)
    for number in (1, 2, 7):
        arrivals._sights[number].is_taken = True
    some = source.aspired(config(base, "model_version_policy { latest { num_versions: 2 } }"), arrivals)
    assert (sorted(some.versions or ()), some.waits) == ([2, 7], True)
    assert str(some.error) == "Version 123 of model m is still being copied"
    (base / "00000123" / "more").touch()
    grown = source.aspired(config(base), arrivals)
    assert type(grown.error) is Unavailable


def test_a_version_that_failed_is_looked_at_again(base: Path) -> None:
    """Those that did not stay as they were taken."""
    arrivals = Arrivals(0.0)
    before = source.aspired(config(base), arrivals).versions
    assert before
    (base / "00000123" / "saved_model.pb").write_bytes(b"mended")
    assert (source.aspired(config(base), arrivals).versions or {})[123].fingerprint is None
    again = source.aspired(config(base), arrivals, failed={123}).versions
    assert again
    assert again[123].fingerprint not in (None, before[123].fingerprint)


def test_a_source_that_stops_looks_at_nothing_more(base: Path) -> None:
    """Not even at the models that are left in this look."""
    reports: list[str] = []
    watch = FileSystemSource(lambda name, _: reports.append(name), stopping=lambda: bool(reports))
    watch.set_models({"m": config(base), "n": config(base)})
    assert reports == ["m"]


def test_when_to_look_again(base: Path) -> None:
    """Soon, as long as a version is waited for; a model's directories are remembered as long as it is configured."""
    reports: dict[str, Aspired] = {}
    watch = FileSystemSource(reports.__setitem__, settle_seconds=1000.0)
    watch.set_models({"m": config(base)})
    assert (watch.is_waiting, watch.poll(), reports["m"].waits) == (True, 1000.0, True)
    seen = watch._arrivals["m", str(base)]
    watch.set_models({"m": config(base), "n": config(base)})
    assert watch._arrivals["m", str(base)] is seen
    assert watch._arrivals["n", str(base)] is not seen
    watch.set_models({})
    assert (watch.is_waiting, watch.poll()) == (False, None)


def test_a_version_that_arrives_unloads_nothing(base: Path) -> None:
    """While it is being copied, what is served stays, even if its own directory is gone."""
    arrivals = Arrivals(1.0)

    result = source.aspired(config(base), arrivals)

    assert result.versions is None
    assert str(result.error) == "Version 123 of model m is still being copied"
    assert result.waits
