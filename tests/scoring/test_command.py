"""`fashion score`: options to one call, a summary or the manifest, and one line when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from scoring.progress import Progress
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
