"""`fashion export`: options to one call, and what is printed of its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from serving.apis import CONFIG_DIR
from tests.support.exports import invoke
from tests.support.keys import key_pair
from tests.support.records import predict_log, write_recording
from training import runs
from training.export.export import ExportedVersion
from training.export.self_test import Differences
from training.export.trained import Elsewhere


class Called:
    """What the command asks of the library, which gives a result that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded: list[Any] = []
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}
        self.result = exported()
        monkeypatch.setattr("training.export.trained.load_run", lambda *asked: self._load("run", *asked))
        monkeypatch.setattr("training.export.trained.load_file", lambda *asked: self._load("file", *asked))
        monkeypatch.setattr("training.export.export.export_saved_model", self._export)

    def _load(self, *asked: Any) -> str:
        self.loaded.append(asked)
        return "the model"

    def _export(self, *arguments: Any, **options: Any) -> ExportedVersion:
        self.arguments, self.options = arguments, options
        return self.result


def exported(**facts: Any) -> ExportedVersion:
    """A version that was published."""
    plain: dict[str, Any] = {
        "version": 3, "path": Path("models/m/3"), "accuracy": 0.88, "differences": {"a": 1.5e-7, "b": 2.5e-7},
        "litert_differences": {}, "forced": [], "removed": [],
    }  # fmt: skip
    return ExportedVersion(**(plain | facts))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Called:
    """The library, which does nothing, and files that options may name."""
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("cat\ndog\n")
    Path("layers.py").write_text("class Mine: pass\n")
    Path("batching.config").write_text("max_batch_size { value: 4 }")
    Path("day").mkdir()
    for name in ("day/a.tfrecord", "day/b.tfrecord", "c.tfrecord"):
        write_recording(Path(name), predict_log(1))
    return Called(monkeypatch)


DEFAULTS: dict[str, Any] = {
    "batch_sizes": [1, 128], "min_accuracy": None, "max_regression": 0.01, "recordings": [], "min_agreement": 0.9,
    "force": False, "with_copies": False, "with_lite": True, "keep": None, "warmup_recordings": [],
}  # fmt: skip
DAY = [Path("day/a.tfrecord"), Path("day/b.tfrecord")]
OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--min-accuracy", "0.86", "--max-regression", "0.02"], {"min_accuracy": 0.86, "max_regression": 0.02}),
    (["--min-accuracy", "0", "--max-regression", "1"], {"min_accuracy": 0.0, "max_regression": 1.0}),
    (["--force", "--with-copies", "--no-lite"], {"force": True, "with_copies": True, "with_lite": False}),
    (["--keep", "1"], {"keep": 1}),
    (["--replay", "day", "--replay", "c.tfrecord"], {"recordings": [*DAY, Path("c.tfrecord")]}),
    (["--replay", "c.tfrecord", "--min-agreement", "0"], {"recordings": [Path("c.tfrecord")], "min_agreement": 0.0}),
    (["--warmup-from", "c.tfrecord", "--warmup-from", "day"], {"warmup_recordings": [Path("c.tfrecord"), *DAY]}),
    (["--batching-config", "batching.config"], {"batch_sizes": [1, 4]}),
]


@pytest.mark.parametrize(("options", "changed"), OPTIONS)
def test_options_are_arguments_of_one_call(called: Called, options: list[str], changed: dict[str, Any]) -> None:
    """Each has its own, and the defaults of the others; without one it is the latest run."""
    done = invoke("export", *options)
    assert (done.exit_code, done.stdout) == (0, "models/m/3\n"), done.stderr
    assert called.loaded == [("run", runs.RUNS_DIR / "latest")]
    assert called.arguments == ("the model", Path("models/fashion_mnist"))
    assert callable(called.options.pop("report"))
    assert called.options == DEFAULTS | changed


def test_a_run_and_a_place_can_be_others(called: Called) -> None:
    """The name of the model is that of the place, also for a model from elsewhere."""
    assert invoke("export", "runs/mine", "--model-base-path", "models/m").exit_code == 0
    assert invoke("export", "--from", "a.keras", "--model-base-path", "models/m").exit_code == 0
    assert called.loaded == [("run", Path("runs/mine")), ("file", Elsewhere(Path("a.keras")), "m")]
    assert called.arguments == ("the model", Path("models/m"))


def test_what_belongs_to_a_model_from_elsewhere(called: Called) -> None:
    """All of it, in its place."""
    options = ("--weights", "w.h5", "--data-dir", "data", "--input-range", "-1..1", "--class-names", "names.txt")
    assert invoke("export", "--from", "a.json", *options, "--golden", "g.npz", "--import", "layers.py").exit_code == 0
    [(_, source, name)] = called.loaded
    assert name == "fashion_mnist"
    assert list(source.objects) == ["Mine"]
    assert source == Elsewhere(
        Path("a.json"), Path("w.h5"), Path("data"), source.objects, "-1..1", ("cat", "dog"), Path("g.npz")
    )


def test_a_key_signs(called: Called, tmp_path: Path) -> None:
    """The version that is written; one that cannot be read is told before anything is loaded."""
    pair = key_pair(tmp_path, "release")
    assert invoke("export", "--sign", pair.private).exit_code == 0
    assert called.options["sign"].keywords["key"].path == pair.private
    called.loaded.clear()
    done = invoke("export", "--sign", pair.public)
    assert (done.exit_code, called.loaded) == (2, [])


def refused(*arguments: object) -> str:
    """What is said of options that cannot be."""
    done = invoke("export", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr.splitlines()[-1]


def test_options_that_cannot_be(called: Called) -> None:
    """One line that says what belongs together; nothing is loaded."""
    for arguments in (("run", "--from", "a"), ("run", "--verify", "a"), ("--from", "a", "--verify", "b")):
        assert refused(*arguments) == "Error: RUN, --from and --verify exclude one another: name one of them"
    for option, value in (
        ("--weights", "w"),
        ("--input-range", "0..1"),
        ("--class-names", "names.txt"),
        ("--golden", "g"),
        ("--import", "m"),
    ):
        assert refused(option, value) == f"Error: {option} belongs to --from: name the model's file with --from"
    assert refused("--min-agreement", "0.5") == (
        "Error: --min-agreement belongs to --replay: name the recordings with --replay"
    )
    Path("none").mkdir()
    for option in ("--replay", "--warmup-from"):
        assert refused(option, "none") == "Error: no recordings in none: name a file that was recorded"
    for option, value in (
        ("--min-accuracy", "1.1"), ("--min-accuracy", "-0.1"), ("--max-regression", "1.1"), ("--keep", "0"),
        ("--max-regression", "-0.1"), ("--min-agreement", "1.1"), ("--min-agreement", "-0.1"), ("--replay", "gone"),
        ("--input-range", "0..2"), ("--batching-config", "gone"), ("--sign", "none"), ("--data-dir", "names.txt"),
    ):  # fmt: skip
        assert f"Invalid value for '{option}'" in refused(option, value)
    assert called.arguments == ()


def printed(done: Result) -> list[str]:
    """The lines on stderr."""
    assert (done.exit_code, done.stdout) == (0, "models/m/3\n")
    return done.stderr.splitlines()


def test_what_is_printed_of_a_version(called: Called) -> None:
    """The path on stdout; on stderr how it was tested, and whatever else there is to say."""
    assert printed(invoke("export")) == [
        "Self-test passed: 2 signatures answer as the trained model does, within 2.5e-07"
    ]
    called.result = exported(differences={})
    assert printed(invoke("export")) == []
    called.result = exported(
        differences={"a": 1.5e-7},
        litert_differences={"a": 3.5e-6},
        notes=("one", "two"),
        replay={"agreeing": 19, "compared": 20},
        forced=["worse", "slower"],
        removed=[1, 2],
    )
    assert printed(invoke("export")) == [
        "Self-test passed: 1 signature answers as the trained model does, on LiteRT too, within 3.5e-06",
        "Note: one",
        "Note: two",
        "Replayed: 19 of 20 inputs have the recorded class",
        "Forced: worse",
        "Forced: slower",
        "Removed: 1, 2",
    ]
    called.result = exported(litert_differences={"a": 0.0})
    assert printed(invoke("export")) == [
        "Self-test passed: 2 signatures answer as the trained model does, 1 of them on LiteRT too, within 2.5e-07"
    ]


def test_a_version_as_json(called: Called) -> None:
    """All that is known of it, and nothing on stderr."""
    called.result = exported(notes=("one",), removed=[1])
    done = invoke("export", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "version": 3, "path": "models/m/3", "accuracy": 0.88, "differences": {"a": 1.5e-7, "b": 2.5e-7},
        "litert_differences": {}, "forced": [], "removed": [1], "replay": None, "notes": ["one"],
    }  # fmt: skip
    assert done.stdout.startswith('{\n  "version": 3,')


@pytest.mark.parametrize(
    ("files", "told"), [(12, "12 files as exported"), (0, "no manifest, so its files were not compared")]
)
def test_a_version_that_is_verified(monkeypatch: pytest.MonkeyPatch, files: int, told: str) -> None:
    """Its files, and how far its answers are from those of the trained model; nothing is exported."""
    differences = Differences({"a": 1e-7}, {"a": 2e-7})
    monkeypatch.setattr("training.export.export.verify", lambda path: (files, differences) if path else None)
    done = invoke("export", "--verify", "models/m/3")
    assert done.output == (
        f"models/m/3: {told}; 1 signature answers as the trained model does, on LiteRT too, within 2.0e-07\n"
    )
    done = invoke("export", "--verify", "models/m/3", "--json")
    assert json.loads(done.output) == {
        "path": "models/m/3", "files": files, "differences": {"a": 1e-7}, "litert_differences": {"a": 2e-7},
    }  # fmt: skip


def test_the_server_s_own_configuration_has_the_batch_sizes() -> None:
    """It is where it is looked for."""
    assert (CONFIG_DIR / "batching.config").is_file()
