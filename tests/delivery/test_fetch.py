"""One version, brought into a directory aside: what is read of it, what is kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from delivery.errors import ChangedError, RefusedError, SourceError
from delivery.fetch import _STAMPS_FILE, FILES, discard, fetch
from delivery.places import Place
from fashion_common.layout import MANIFEST_FILE, SAVED_MODEL_FILE
from tests.support.sources import LARGE, PIECE, Memory, local_files, memory, put, version_files  # noqa: F401

pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def place() -> Place:
    """Where version 1 is."""
    return Place.of("flaky://bucket/fashion_mnist/1")


@pytest.fixture
def aside(tmp_path: Path) -> Path:
    """Where it goes."""
    (tmp_path / "aside").mkdir()
    return tmp_path / "aside"


def test_how_far_it_is_is_told_by_bytes(place: Place, aside: Path) -> None:
    """From nothing to all of them, the manifest first, then by name and piece by piece; that digests were held to."""
    files = put(1, version_files())
    told: list[tuple[int, int]] = []
    assert fetch(place, place.files(), aside, lambda *seen: told.append(seen)) is True
    total = sum(map(len, files.values()))
    manifest, graph, index = len(files[MANIFEST_FILE]), len(files[SAVED_MODEL_FILE]), 5
    start = manifest + graph
    assert told == [
        (done, total)
        for done in (
            0, manifest, manifest, start, start, start + 1000, start + 2000, start + 3000, start + 3500, start + 3500,
            start + 3500 + index,
        )
    ]  # fmt: skip
    assert local_files(aside / FILES) == files
    stamps = {name: file.stamp for name, file in place.files().items()}
    assert json.loads((aside / "stamps.json").read_text()) == stamps
    assert Memory.reads == {f"1/{name}": len(content) for name, content in files.items()}


def test_without_a_manifest_only_sizes_count(place: Place, aside: Path) -> None:
    """Which is said."""
    files = put(1, version_files(manifest=False))
    assert fetch(place, place.files(), aside) is False
    assert local_files(aside / FILES) == files


def test_what_is_whole_is_not_read_again(place: Place, aside: Path) -> None:
    """What is there in part is gone on with; what is larger than it should be, of another stamp, or gone, is not."""
    files = put(1, version_files(manifest=False))
    fetch(place, place.files(), aside)
    Memory.reads.clear()
    fetch(place, place.files(), aside)
    assert Memory.reads == {}
    target = aside / FILES
    (target / LARGE).write_bytes(files[LARGE][:1500])
    (target / SAVED_MODEL_FILE).write_bytes(files[SAVED_MODEL_FILE] + b"x")
    (target / "more").write_bytes(b"x")
    (target / "variables/variables.index").unlink()
    fetch(place, place.files(), aside)
    assert Memory.reads == {f"1/{LARGE}": 2000, f"1/{SAVED_MODEL_FILE}": 5, "1/variables/variables.index": 5}
    assert local_files(target) == files
    put(1, {LARGE: files[LARGE][::-1]})
    Memory.reads.clear()
    fetch(place, place.files(), aside)
    assert Memory.reads == {f"1/{LARGE}": 3500}
    assert local_files(target) == files | {LARGE: files[LARGE][::-1]}


def test_bytes_of_before_that_are_wrong_are_read_anew(place: Place, aside: Path) -> None:
    """Once: a file that is wrong at the source is not kept."""
    files = put(1, version_files())
    fetch(place, place.files(), aside)
    (aside / FILES / LARGE).write_bytes(b"x" * 3500)
    Memory.reads.clear()
    fetch(place, place.files(), aside)
    assert Memory.reads == {f"1/{LARGE}": 3500}
    put(1, {LARGE: b"x" * 3500})
    Memory.reads.clear()
    with pytest.raises(RefusedError) as error:
        fetch(place, place.files(), aside)
    assert str(error.value) == f"{LARGE} is not the file that was exported (SHA-256 differs)"
    assert Memory.reads == {f"1/{LARGE}": 7000}
    assert sorted(local_files(aside / FILES)) == sorted(files.keys() - {LARGE})


def test_damaged_stamps_are_none(place: Place, aside: Path) -> None:
    """Everything is read anew."""
    files = put(1, version_files(manifest=False))
    fetch(place, place.files(), aside)
    (aside / "stamps.json").write_bytes(b"{")
    Memory.reads.clear()
    fetch(place, place.files(), aside)
    assert Memory.reads == {f"1/{name}": len(content) for name, content in files.items()}
    (aside / "stamps.json").unlink()
    Memory.reads.clear()
    fetch(place, place.files(), aside)
    assert len(Memory.reads) == 3


MANIFESTS = {
    "[]": "TypeError: list indices must be integers or slices, not str",
    "{}": "KeyError: 'files'",
    '{"files": []}': "AttributeError: 'list' object has no attribute 'items'",
    '{"files": {"a": {}}}': "KeyError: 'sha256'",
    '{"files": {"a": 1}}': "TypeError: 'int' object is not subscriptable",
    "[" * 100_000: "RecursionError: maximum recursion depth exceeded while decoding a JSON array from a unicode string",
}


@pytest.mark.parametrize("content", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_manifest_that_is_none(place: Place, aside: Path, content: str) -> None:
    """Whatever it holds; nothing else is read then."""
    put(1, version_files() | {MANIFEST_FILE: content.encode()})
    with pytest.raises(RefusedError) as error:
        fetch(place, place.files(), aside)
    assert str(error.value) == f"{MANIFEST_FILE} is damaged ({MANIFESTS[content]})"
    assert list(Memory.reads) == [f"1/{MANIFEST_FILE}"]


def test_a_manifest_has_16_mib(place: Place, aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind them does not count, so one that is larger is damaged."""
    monkeypatch.setattr("delivery.fetch._PIECE_BYTES", 2**25)
    text = json.dumps({"files": {}}).encode()
    files = put(1, version_files(size=1) | {MANIFEST_FILE: text.rjust(16 * 2**20)})
    assert fetch(place, place.files(), aside)
    put(1, files | {MANIFEST_FILE: text.rjust(16 * 2**20 + 1)})
    with pytest.raises(RefusedError, match=f"^{MANIFEST_FILE} is damaged "):
        fetch(place, place.files(), aside)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../b", "a//b", "./a", "a\\b", "a\0b"])
def test_names_that_lead_elsewhere(place: Place, aside: Path, name: str) -> None:
    """They are refused before anything is read or written."""
    put(1, version_files())
    files = place.files()
    file = files[SAVED_MODEL_FILE]
    # Its own listing is what it is asked with.
    listing = {**files, name: file}

    class Listed(Place):
        """A place that lists such a name."""

        def files(self) -> dict[str, object]:  # type: ignore[override]
            """All of them."""
            return dict(listing)

    with pytest.raises(RefusedError) as error:
        fetch(Listed(place.fs, place.path), listing, aside)
    assert str(error.value).endswith(" is no name of a file in a version")
    assert not isinstance(error.value, ChangedError)
    assert (Memory.reads, list(aside.iterdir())) == ({}, [])


@pytest.mark.parametrize("model", ["saved_model.pb", "saved_model.pbtxt", "model.tflite"])
def test_a_version_has_a_model_of_one_kind(place: Place, aside: Path, model: str) -> None:
    """Without any it may still be on its way."""
    put(1, {"readme": b"x"})
    with pytest.raises(RefusedError) as error:
        fetch(place, place.files(), aside)
    assert str(error.value) == (
        "it holds none of saved_model.pb, saved_model.pbtxt, model.tflite: it may still be on its way"
    )
    put(1, {model: b"x"})
    assert fetch(place, place.files(), aside) is False


def test_a_version_that_changes_is_told_from_one_that_is_damaged(place: Place, aside: Path) -> None:
    """While it is read, or because a file of it is gone; not where nobody answers any more."""
    put(1, version_files())
    files = place.files()
    Memory.changes.append(lambda: put(1, {"more": b"x"}))
    with pytest.raises(ChangedError, match=r"^it changes while it is read$"):
        fetch(place, files, aside)
    files = place.files()
    Memory().rm(f"/bucket/fashion_mnist/1/{LARGE}")
    discard(aside)
    aside.mkdir()
    with pytest.raises(ChangedError, match=r"^it changes while it is read$"):
        fetch(place, files, aside)
    put(1, version_files())
    files = place.files()
    Memory.cut_after = PIECE // 2
    with pytest.raises(SourceError, match=r"was cut$"):
        fetch(place, files, aside)


def test_what_was_fetched_is_discarded(place: Place, aside: Path) -> None:
    """The stamps too, first: a directory that is gone already is no matter."""
    put(1, version_files())
    fetch(place, place.files(), aside)
    discard(aside)
    assert not aside.exists()
    discard(aside)


def test_stamps_go_before_the_files(place: Place, aside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed in between leaves files that nobody goes on with."""
    put(1, version_files())
    fetch(place, place.files(), aside)
    before = {path.name for path in aside.iterdir()}
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    discard(aside)
    assert before - {path.name for path in aside.iterdir()} == {_STAMPS_FILE}
