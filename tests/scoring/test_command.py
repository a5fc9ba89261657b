"""`fashion score`: options to one call, a summary or the manifest, and one line when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from scoring import ScoringError, ScoringUsageError, score
from scoring.models import Source
from scoring.progress import Progress
from scoring.readers import Columns
from tests.scoring.conftest import parquet


def invoke(*arguments: object) -> Result:
    """The result of `fashion score ARGUMENTS...`."""
    return CliRunner().invoke(fashion, ["score", *map(str, arguments)])


def test_a_summary_or_the_manifest(scored_model: Path, tmp_path: Path) -> None:
    """With --json what is in the output too."""
    path, output = parquet(tmp_path / "rows.parquet", 20), tmp_path / "out"
    done = invoke(path, "--model", scored_model, "--output", output, "--label-column", "label")
    assert done.exit_code == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"20 rows in 1 parts in {output}, ")
    assert second == "accuracy 1.0000 of 20 labelled rows"
    done = invoke(path, "--model", scored_model, "--output", output, "--label-column", "label", "--json")
    assert json.loads(done.stdout) == json.loads((output / "_manifest.json").read_text())


def test_a_file_that_cannot_be_read_is_exit_code_1(scored_model: Path, tmp_path: Path) -> None:
    """The others are scored, and the summary says where it is listed."""
    (tmp_path / "in").mkdir()
    parquet(tmp_path / "in/a.parquet", 20)
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    done = invoke(tmp_path / "in", "--model", scored_model, "--output", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1] == (
        f"1 errors, 1 of them files that cannot be read: {tmp_path}/out/_errors.parquet"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give what answers: a version's directory (--model), or servers (--server), not both"),
        (("--model", "none"), "Could not find base path none: create it, or correct the path"),
        (("--model", "m", "--workers", "many"), "'many': expected MIN:MAX, such as 1:8"),
        (("--model", "m", "--workers", "4:2"), "4:2 workers cannot be: the fewest, at least 1, and the most"),
    ],
)
def test_a_wrong_option_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    """One line; nothing is made."""
    monkeypatch.chdir(tmp_path)
    parquet(Path("rows.parquet"), 5)
    done = invoke("rows.parquet", "--output", "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr.splitlines()[-1]
    assert not Path("out").exists()


def test_progress_as_json(scored_model: Path, tmp_path: Path) -> None:
    """A line a piece at most, and one in the end, on stderr."""
    path = parquet(tmp_path / "rows.parquet", 20)
    done = invoke(path, "--model", scored_model, "--output", tmp_path / "out", "--progress", "json")
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["rows"], last["total"], last["seconds_left"]) == (20, 20, 0)
    assert last["rows_per_second"] > 0


def test_progress_on_a_terminal() -> None:
    """How far, how quick, and the time left; rows of an earlier run count for the first alone."""
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            """It is one."""
            return True

    now = 100.0
    terminal = Terminal()
    progress = Progress("bar", 1000, terminal, lambda: now)
    progress.skip(200)
    now = 102.0
    progress.add(400)
    progress.end()
    lines = terminal.getvalue().replace("\r\x1b[K", "\n").splitlines()
    assert lines[-1] == "600 of 1,000 rows (60%), 200/s, 0:02 left"
    now = 1e6
    assert progress.facts()["seconds_left"] == pytest.approx(999_900, rel=0.01)


class Called:
    """What a command asks of the library; manifest: what that gives, or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}
        self.manifest: dict[str, Any] | BaseException = {
            "rows": 1_234_567,
            "parts": 13,
            "rows_per_second": 12_345.6,
            "errors": 0,
            "unreadable_files": 0,
            "accuracy": None,
            "labelled": 0,
        }
        monkeypatch.setattr("scoring.score", self._score)

    def _score(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        self.arguments, self.options = arguments, options
        if isinstance(self.manifest, BaseException):
            raise self.manifest
        return self.manifest


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """The library, which does nothing."""
    return Called(monkeypatch)


DEFAULTS: dict[str, Any] = {
    "model": None, "servers": (), "model_name": "fashion_mnist", "model_version": None, "timeout": 10.0,
    "image_column": "", "label_column": "", "preprocess": "auto", "form": "parquet", "engine": "local",
    "workers": None, "ray_address": None, "num_gpus": 0.0, "progress": "bar",
}  # fmt: skip
OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--model", "m/7"], {"model": "m/7"}),
    (["--server", "grpc://a:1", "--server", "grpc://b:1"], {"servers": ("grpc://a:1", "grpc://b:1")}),
    (["--model-name", "shoes", "--model-version", "0"], {"model_name": "shoes", "model_version": 0}),
    (["--timeout", "2.5", "--preprocess", "photo"], {"timeout": 2.5, "preprocess": "photo"}),
    (["--image-column", "a", "--label-column", "b"], {"image_column": "a", "label_column": "b"}),
    (["--format", "csv", "--progress", "json"], {"form": "csv", "progress": "json"}),
    (["--format", "jsonl", "--progress", "none"], {"form": "jsonl", "progress": "none"}),
    (["--engine", "ray", "--ray-address", "auto"], {"engine": "ray", "ray_address": "auto"}),
    (["--num-gpus", "0.5", "--workers", "2:8"], {"num_gpus": 0.5, "workers": (2, 8)}),
    (["--workers", "3"], {"workers": (3, 3)}),
]


@pytest.mark.parametrize(("options", "changed"), OPTIONS)
def test_options_are_arguments_of_one_call(called: Called, options: list[str], changed: dict[str, Any]) -> None:
    """Each has its own, and the defaults of the others."""
    done = invoke("a.png", "b", "--output", "out", *options)
    assert done.exit_code == 0, done.stderr
    assert called.arguments == (("a.png", "b"), "out")
    assert called.options.pop("security") is not None
    assert called.options == DEFAULTS | changed


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--workers", "2:"], None),
        (["--workers", ":2"], "':2': expected MIN:MAX, such as 1:8"),
        (["--workers", "1:x"], "'1:x': expected MIN:MAX, such as 1:8"),
        (["--workers", "1:2:3"], "'1:2:3': expected MIN:MAX, such as 1:8"),
        (["--model-version", "-1"], "Invalid value for '--model-version'"),
        (["--num-gpus", "-0.5"], "Invalid value for '--num-gpus'"),
        (["--engine", "spark"], "Invalid value for '--engine'"),
        (["--format", "xml"], "Invalid value for '--format'"),
        (["--progress", "loud"], "Invalid value for '--progress'"),
    ],
)
def test_options_that_cannot_be(called: Called, options: list[str], text: str | None) -> None:
    """Nothing is called; a missing end of workers is its beginning."""
    done = invoke("a.png", "--output", "out", *options)
    assert done.exit_code == (2 if text else 0)
    assert (text or "") in done.stderr
    assert bool(called.arguments) == (text is None)
    assert invoke("a.png").exit_code == invoke("--output", "out").exit_code == 2


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({}, []),
        ({"errors": 1_500}, ["1,500 errors: out/_errors.parquet"]),
        (
            {"errors": 3, "unreadable_files": 2},
            ["3 errors, 2 of them files that cannot be read: out/_errors.parquet"],
        ),
        ({"accuracy": 0.0, "labelled": 1_500}, ["accuracy 0.0000 of 1,500 labelled rows"]),
        (
            {"errors": 1, "accuracy": 0.98765, "labelled": 20},
            ["1 errors: out/_errors.parquet", "accuracy 0.9877 of 20 labelled rows"],
        ),
    ],
)
def test_what_the_summary_says(called: Called, facts: dict[str, Any], lines: list[str]) -> None:
    """A line each; files that cannot be read are exit code 1."""
    assert isinstance(called.manifest, dict)
    called.manifest |= facts
    done = invoke("a.png", "--output", "out/")
    assert done.stdout.splitlines() == ["1,234,567 rows in 13 parts in out/, 12,346/s", *lines]
    assert (done.exit_code, done.stderr) == (1 if "unreadable_files" in facts else 0, "")
    done = invoke("a.png", "--output", "out/", "--json")
    assert done.stdout == json.dumps(called.manifest, indent=2) + "\n"


@pytest.mark.parametrize(
    ("error", "exit_code", "is_early"),
    [
        (ScoringError("broken"), 1, True),
        (ScoringUsageError("asked wrongly"), 2, False),
        (KeyboardInterrupt(), 1, True),
    ],
)
def test_a_job_that_ends_early_can_be_gone_on_with(
    called: Called, error: BaseException, exit_code: int, is_early: bool
) -> None:
    """Which is said, but not of one that was asked wrongly."""
    called.manifest = error
    done = invoke("a.png", "--output", "out")
    assert (done.exit_code, done.stdout) == (exit_code, "")
    text = "Ended early: the same command goes on with what is in out\n"
    assert done.stderr.startswith(text) == is_early
    assert done.stderr.removeprefix(text).endswith(f"Error: {error}\n" if str(error) else "Aborted!\n")


def test_what_the_library_is_told_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as there are processors, or the most workers; an actor of Ray's has one."""
    from scoring import cluster, job, local

    asked: list[Any] = []
    monkeypatch.setattr(job, "run", lambda *arguments, **options: asked.append((arguments, options)))
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    score(["a"], "out", model="m")
    score(["a"], "out", model="m", workers=(1, 1), form="csv", label_column="b", progress="json")
    score(["a"], "out", servers=["s"], engine="ray", ray_address="auto", num_gpus=0.5, image_column="i")
    score(["a"], "out", servers=["s"], engine="ray", workers=(2, 2), preprocess="none", model_version=4, timeout=1)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    score(["a"], "out", model="m", model_name="n")
    engines = [arguments[3] for arguments, _ in asked]
    assert [(engine.func, engine.keywords) for engine in engines] == [
        (local.run, {"threads": 6}),
        (local.run, {"threads": 1}),
        (cluster.run, {"workers": (1, 6), "address": "auto", "num_gpus": 0.5}),
        (cluster.run, {"workers": (2, 2), "address": None, "num_gpus": 0.0}),
        (local.run, {"threads": 1}),
    ]
    assert [arguments[:3] for arguments, _ in asked] == [
        (["a"], "out", Source("m", (), threads=6)),
        (["a"], "out", Source("m", (), threads=1)),
        (["a"], "out", Source("", ("s",), threads=1)),
        (["a"], "out", Source("", ("s",), version=4, timeout=1, threads=1)),
        (["a"], "out", Source("m", (), "n", threads=1)),
    ]
    plain = {"columns": Columns(), "labels": "", "form": "parquet", "progress": "none"}
    assert [options for _, options in asked] == [
        plain,
        plain | {"labels": "b", "form": "csv", "progress": "json"},
        plain | {"columns": Columns("i", "auto")},
        plain | {"columns": Columns("", "none")},
        plain,
    ]


@pytest.mark.parametrize("workers", [(0, 1), (3, 2), (-1, 4)])
def test_workers_are_one_at_least(workers: tuple[int, int]) -> None:
    """And the most no fewer than the fewest."""
    with pytest.raises(ScoringUsageError) as error:
        score(["a"], "out", model="m", workers=workers)
    text = f"{workers[0]}:{workers[1]} workers cannot be: the fewest, at least 1, and the most"
    assert str(error.value) == text
