"""Every kind of input is scored to the same answers, whatever the engine, the runtime and the format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delivery.errors import DeliveryUsageError
from fashion_common.served_model import CLASS_NAMES
from scoring import ScoringError, ScoringUsageError, score
from tests.scoring.conftest import images, parquet, png
from tests.support.live import Server, running


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows of an output's parts, in order."""
    return [row for part in sorted(output.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_every_kind_of_input(scored_model: Path, each_input: list[str], tmp_path: Path) -> None:
    """Each row has its class, its name and its probabilities, and no error, in the input's order."""
    manifest = score(each_input, str(tmp_path / "out"), model=str(scored_model), preprocess="none")
    assert (manifest["rows"], manifest["errors"]) == (23, 0)
    found = rows(tmp_path / "out")
    assert [row["class_id"] for row in found] == [number % 10 for number in range(23)]
    assert [row["class_name"] for row in found] == [CLASS_NAMES[number % 10] for number in range(23)]
    for row in found:
        assert row["probability"] == pytest.approx(0.91)
        expected = [0.91 if class_id == row["class_id"] else 0.01 for class_id in range(10)]
        assert row["probabilities"] == pytest.approx(expected)
        assert (row["model_version"], row["error"]) == (7, None)
    assert not (tmp_path / "out/_errors.parquet").exists()


def test_columns_are_carried_through(scored_model: Path, tmp_path: Path) -> None:
    """All but the pictures; labels, as ids or as names, give the accuracy."""
    count = 1234
    names = pa.array([CLASS_NAMES[0]] * count)
    path = parquet(tmp_path / "rows.parquet", count, name=names, row_group=100)
    manifest = score([str(path)], str(tmp_path / "out"), model=str(scored_model.parent), label_column="label")
    table = pa.concat_tables([pq.read_table(part) for part in sorted((tmp_path / "out").glob("part-*"))])
    assert table.column("id").to_pylist() == list(range(count))
    assert table.column_names[:3] == ["id", "label", "name"]
    assert (manifest["accuracy"], manifest["labelled"]) == (1.0, count)
    assert manifest["classes"] == {name: count // 10 + (k < count % 10) for k, name in enumerate(CLASS_NAMES)}
    manifest = score([str(path)], str(tmp_path / "named"), model=str(scored_model), label_column="name")
    assert manifest["accuracy"] == pytest.approx(124 / count)
    assert json.loads((tmp_path / "named/_manifest.json").read_text()) == manifest


@pytest.fixture(scope="module")
def server(scored_model: Path) -> Iterator[Server]:
    """One that has the toy version."""
    with running("--model_name=fashion_mnist", f"--model_base_path={scored_model.parent}") as live:
        yield live


@pytest.mark.parametrize("api", ["grpc", "http"])
def test_servers_give_the_same_answers(scored_model: Path, server: Server, tmp_path: Path, api: str) -> None:
    """As the version in this process does, to the byte; several are asked in turn."""
    path = parquet(tmp_path / "rows.parquet", 300)
    url = f"grpc://{server.grpc}" if api == "grpc" else f"http://{server.rest}"
    score([str(path)], str(tmp_path / "servers"), servers=[url, url])
    score([str(path)], str(tmp_path / "here"), model=str(scored_model))
    part = "part-000000.parquet"
    assert (tmp_path / "servers" / part).read_bytes() == (tmp_path / "here" / part).read_bytes()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_other_formats(scored_model: Path, tmp_path: Path, form: str) -> None:
    """The same rows as text, lists as JSON."""
    path = parquet(tmp_path / "rows.parquet", 12)
    score([str(path)], str(tmp_path / "out"), model=str(scored_model), form=form)
    lines = (tmp_path / f"out/part-000000.{form}").read_text().splitlines()
    if form == "jsonl":
        assert [json.loads(line)["class_id"] for line in lines] == [number % 10 for number in range(12)]
        assert json.loads(lines[3])["probabilities"] == pytest.approx([0.01] * 3 + [0.91] + [0.01] * 6)
    else:
        assert lines[0].startswith('"id","label","class_id","class_name","probability","probabilities"')
        assert lines[4].startswith('3,3,3,"Dress",0.90999997,"[0.01, 0.01, 0.01, 0.90999997, 0.01')


def test_bad_rows_are_listed(scored_model: Path, tmp_path: Path) -> None:
    """They keep their place, have no answer but why, and are in a file of their own."""
    good = png(images(1)[0])
    cells = pa.array([good, b"no picture", None, good], pa.binary())
    pq.write_table(pa.table({"id": [5, 6, 7, 8], "image": cells}), tmp_path / "rows.parquet")
    manifest = score([str(tmp_path / "rows.parquet")], str(tmp_path / "out"), model=str(scored_model))
    assert (manifest["rows"], manifest["errors"], manifest["unreadable_files"]) == (4, 2, 0)
    found = rows(tmp_path / "out")
    assert [(row["id"], row["class_id"]) for row in found] == [(5, 0), (6, None), (7, None), (8, 0)]
    assert found[1]["probabilities"] is None
    errors = pq.read_table(tmp_path / "out/_errors.parquet").to_pylist()
    assert [error["id"] for error in errors] == [6, 7]
    assert errors[0]["error"].startswith("row 1: ")
    assert errors[1]["error"] == "no picture: the cell is empty"
    assert sum(manifest["classes"].values()) == 2


def test_a_broken_file_in_the_middle(scored_model: Path, tmp_path: Path) -> None:
    """The others are scored; it is among the errors, whether its end or its middle is broken."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b", "c", "d"):
        parquet(folder / f"{name}.parquet", 50)
    content = (folder / "b.parquet").read_bytes()
    (folder / "b.parquet").write_bytes(content[: len(content) // 2])
    content = (folder / "c.parquet").read_bytes()
    (folder / "c.parquet").write_bytes(content[:10] + b"\xff" * 2000 + content[2010:])
    manifest = score([str(folder)], str(tmp_path / "out"), model=str(scored_model))
    assert (manifest["rows"], manifest["parts"], manifest["unreadable_files"]) == (100, 2, 2)
    errors = pq.read_table(tmp_path / "out/_errors.parquet").to_pylist()
    assert [Path(error["path"]).name for error in errors] == ["b.parquet", "c.parquet"]
    assert all("cannot be read: " in error["error"] for error in errors)


def test_a_job_is_gone_on_with(scored_model: Path, tmp_path: Path) -> None:
    """What is done is not done again; a part that is gone is."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        parquet(folder / f"{number}.parquet", 20)
    first = score([str(folder)], str(tmp_path / "out"), model=str(scored_model))
    parts = sorted((tmp_path / "out").glob("part-*"))
    times = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    again = score([str(folder)], str(tmp_path / "out"), model=str(scored_model))
    assert [part.stat().st_mtime_ns for part in parts][::2] == times[::2]
    assert len(rows(tmp_path / "out")) == 60
    for manifest in (first, again):
        for volatile in ("seconds", "rows_per_second", "ended"):
            del manifest[volatile]
    assert again == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_column": "label"}, "was begun with other settings"),
        ({"form": "csv"}, "was begun with other settings"),
        ({"inputs": "more"}, "was begun with another input: give another --output"),
        ({"model": "other"}, "was begun with another model"),
    ],
    ids=["labels", "format", "input", "model"],
)
def test_another_job_is_refused(scored_model: Path, tmp_path: Path, change: dict[str, str], message: str) -> None:
    """Nothing of the first one changes."""
    path = parquet(tmp_path / "rows.parquet", 20)
    score([str(path)], str(tmp_path / "out"), model=str(scored_model))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("part*")}
    inputs, model, settings = [str(path)], scored_model, dict(change)
    if settings.pop("inputs", None):
        inputs.append(str(parquet(tmp_path / "more.parquet", 5)))
    if settings.pop("model", None):
        model = tmp_path / "fashion_mnist/7"
        model.parent.mkdir()
        model = model.with_name("8")
        model.symlink_to(scored_model)
    with pytest.raises(ScoringUsageError, match=message):
        score(inputs, str(tmp_path / "out"), model=str(model), **settings)  # type: ignore[arg-type]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("part*")} == before


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["none.parquet"], "none.parquet: there is no such file or directory"),
        (["no*.parquet"], r"no\*.parquet: nothing matches"),
        (["empty"], "empty: no rows in it"),
        (["text.txt"], "text.txt: no kind of file that can be scored"),
        (["two.parquet"], r"two.parquet has several columns that may be pictures \(a, b\): name one of"),
        (["taken.parquet"], "the input has a column 'class_id' already"),
        (["nowhere://x"], "nowhere://x: Protocol not known"),
    ],
)
def test_inputs_that_cannot_be(
    scored_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], message: str
) -> None:
    """One line that says what is wrong."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.txt").touch()
    cells = pa.array([b"x"], pa.binary())
    pq.write_table(pa.table({"a": cells, "b": cells}), "two.parquet")
    pq.write_table(pa.table({"class_id": [1], "b": pa.array([bytes(784)], pa.binary())}), "taken.parquet")
    with pytest.raises((ScoringUsageError, DeliveryUsageError), match=message):
        score(inputs, "out", model=str(scored_model))
    assert not list(tmp_path.glob("out/part-*"))


def test_an_output_with_other_files_is_refused(scored_model: Path, tmp_path: Path) -> None:
    """They may be anybody's."""
    path = parquet(tmp_path / "rows.parquet", 5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(ScoringUsageError, match=r"has files, and no _job\.json: give --output a directory of"):
        score([str(path)], str(tmp_path / "out"), model=str(scored_model))


def test_a_file_that_changes_meanwhile(scored_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are in no part, since nobody knows which ones they would be."""
    from scoring import scorer
    from scoring.readers import rows as read

    path = parquet(tmp_path / "rows.parquet", 50)

    def rows_of_a_changing_file(*arguments: Any) -> Any:
        parquet(path, 60)
        return read(*arguments)

    monkeypatch.setattr(scorer, "rows", rows_of_a_changing_file)
    with pytest.raises(ScoringError, match="has changed since the job began: begin another one"):
        score([str(path)], str(tmp_path / "out"), model=str(scored_model))
    assert not list((tmp_path / "out").glob("part-*"))


def test_memory_as_a_file_system(scored_model: Path, tmp_path: Path) -> None:
    """Input and output are at addresses; the output is that of local files."""
    import fsspec

    fs = fsspec.filesystem("memory")
    path = parquet(tmp_path / "rows.parquet", 30)
    fs.pipe_file("/in/rows.parquet", path.read_bytes())
    score(["memory://in"], "memory://out", model=str(scored_model))
    score(["memory://in/*.parquet"], "memory://out", model=str(scored_model))
    score([str(path)], str(tmp_path / "here"), model=str(scored_model))
    assert fs.cat_file("/out/part-000000.parquet") == (tmp_path / "here/part-000000.parquet").read_bytes()
    assert json.loads(fs.cat_file("/out/_manifest.json"))["rows"] == 30


def test_a_second_job_in_the_same_directory(scored_model: Path, tmp_path: Path) -> None:
    """It is told, and the first one goes on."""
    import fcntl

    path = parquet(tmp_path / "rows.parquet", 5)
    (tmp_path / "out").mkdir()
    with (tmp_path / "out/_lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ScoringError, match="another job is writing"):
            score([str(path)], str(tmp_path / "out"), model=str(scored_model))
    assert score([str(path)], str(tmp_path / "out"), model=str(scored_model))["rows"] == 5


def test_what_answers_is_one_thing(tmp_path: Path) -> None:
    """Neither none nor both."""
    for choice in ({}, {"model": "m", "servers": ["grpc://a:1"]}):
        with pytest.raises(ScoringUsageError, match="give what answers"):
            score(["x"], str(tmp_path), **choice)  # type: ignore[arg-type]
    with pytest.raises(ScoringUsageError, match="3:2 workers cannot be"):
        score(["x"], str(tmp_path), model="m", workers=(3, 2))


def test_lists_with_lines_that_cannot_be(scored_model: Path, tmp_path: Path) -> None:
    """A line without a path is a bad row; one that is no object is a file that cannot be read."""
    (tmp_path / "a.png").write_bytes(png(images(1)[0]))
    (tmp_path / "gaps.jsonl").write_text('{"path": "a.png", "id": 1}\n\n{"id": 2}\n{"path": 5}\n')
    (tmp_path / "broken.jsonl").write_text('{"path": "a.png"}\n[1]\n')
    (tmp_path / "torn.jsonl").write_text('{"path": "a.png"}\n{"path"')
    inputs = [str(tmp_path / name) for name in ("gaps.jsonl", "broken.jsonl", "torn.jsonl")]
    manifest = score(inputs, str(tmp_path / "out"), model=str(scored_model), preprocess="none")
    assert (manifest["rows"], manifest["errors"], manifest["unreadable_files"]) == (3, 4, 2)
    assert [(row["id"], row["class_id"]) for row in rows(tmp_path / "out")] == [(1, 0), (2, None), (None, None)]
    errors = pq.read_table(tmp_path / "out/_errors.parquet").to_pylist()
    assert "a line is no JSON object: '[1]'" in errors[2]["error"]
    assert errors[3]["error"].endswith("""'{"path"'""")
