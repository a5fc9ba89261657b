"""Pictures are decoded to the same pixels wherever that is done."""

from __future__ import annotations

import io
import json
import signal
import struct
import zlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring import ScoringError, score
from scoring.decoders import Decoders, Picture, decoded, main
from tests.scoring.conftest import images, png
from tests.scoring.test_score import rows

# Enough for a process of their own.
_MANY = 1100


def test_processes_give_the_same_parts(scored_model: Path, tmp_path: Path) -> None:
    """To the byte, errors too, as one worker that decodes by itself."""
    cells: list[bytes | None] = [png(image) for image in images(_MANY)]
    cells[7], cells[8] = b"no picture", None
    table = pa.table({"image": pa.array(cells, pa.binary())})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, row_group_size=_MANY)
    outputs = []
    for name, workers in (("one", (1, 1)), ("two", (2, 2))):
        output = tmp_path / name
        manifest = score([str(path)], str(output), model=str(scored_model), preprocess="none", workers=workers)
        assert (manifest["rows"], manifest["errors"]) == (_MANY, 2)
        outputs.append((output / "part-000000.parquet").read_bytes())
    assert outputs[0] == outputs[1]
    assert [row["error"] for row in rows(tmp_path / "two")[6:9]] == [
        None,
        "row 7: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)",
        "no picture: the cell is empty",
    ]


def test_a_process_that_ends() -> None:
    """It is told how, and what to do."""
    pictures = [Picture("a", png(images(1)[0]))] * _MANY
    with closing(Decoders(1)) as decoders:
        assert decoders(pictures, "none") == decoded(pictures, "none")
        [decoder] = decoders._started
        decoder._process.kill()
        with pytest.raises(ScoringError, match="ended with -9: run the same command again to go on"):
            decoders(pictures, "none")


def test_processes_are_used_again_and_end() -> None:
    """As many as there is work for, and no more than they may be; none is left behind."""
    pictures = [Picture("a", png(image)) for image in images(_MANY)]
    with closing(Decoders(3)) as decoders:
        for count in (_MANY, _MANY, 1000):
            assert decoders(pictures[:count], "none") == [image.tobytes() for image in images(_MANY)[:count]]
        processes = [decoder._process for decoder in decoders._started]
        assert [process.poll() for process in processes] == [None, None]
    assert [process.poll() for process in processes] == [0, 0]


def test_few_pictures_need_no_process() -> None:
    """It would take longer to start one."""
    decoders = Decoders(1)
    assert decoders([Picture("a", png(images(1)[0]))] * 999, "none")[0] == images(1)[0].tobytes()
    assert not decoders._started


def request(pictures: list[Picture], preprocess: str) -> bytes:
    """What a process is sent: a line of JSON, and the contents one after the other."""
    names, contents, errors, raw = zip(*pictures, strict=True)
    sizes = [len(content) for content in contents]
    head = {"preprocess": preprocess, "names": names, "errors": errors, "raw": raw, "sizes": sizes}
    return json.dumps(head).encode() + b"\n" + b"".join(contents)


def answers_of(monkeypatch: pytest.MonkeyPatch, text: bytes) -> bytes:
    """What a process that reads this writes until it ends; Ctrl-C does not end it."""
    written = io.BytesIO()
    ignored: list[object] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=written))
    monkeypatch.setattr(signal, "signal", lambda *asked: ignored.append(asked))
    main()
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]
    return written.getvalue()


def test_what_a_process_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Request after request: pixels, or why there are none, for each picture."""
    first, second = images(2)
    raw = Picture("b", second.tobytes(), is_raw=True)
    mixed = [Picture("a", png(first)), raw, Picture("c", b"x"), Picture("d", b"", "no picture: gone")]
    no_picture = "c: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"
    errors = {"errors": ["", "", no_picture, "no picture: gone"], "sizes": [784, 784, 0, 0]}
    one = json.dumps(errors).encode() + b"\n" + first.tobytes() + second.tobytes()
    other = json.dumps({"errors": [""], "sizes": [784]}).encode() + b"\n" + second.tobytes()
    whole = request(mixed, "none") + request([raw], "photo")
    assert answers_of(monkeypatch, whole) == one + other
    # What breaks off is of a program that has ended.
    for cut in (1, 784, len(request([raw], "photo")) - 5):
        assert answers_of(monkeypatch, whole[:-cut]) == one
    assert answers_of(monkeypatch, b"") == b""


def test_pictures_are_prepared_as_they_are_asked_to_be() -> None:
    """Raw pixels are taken as they are, whatever that is; a reason that there is none stays."""
    image = images(1)[0]
    large = png(np.kron(image, np.ones((2, 2), np.uint8)))
    none, photo = (decoded([Picture("a", large)], preprocess)[0] for preprocess in ("none", "photo"))
    assert none != photo
    assert decoded([Picture("a", image.tobytes(), is_raw=True)], "photo") == [image.tobytes()]
    assert decoded([Picture("a", png(image), "no")], "none") == ["no"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_file_as_large_as_raw_pixels(scored_model: Path, tmp_path: Path, count: int) -> None:
    """784 bytes of PNG are a picture, alone and among others."""
    pixels = images(count)
    # Flat but for the pixel that decides: small files.
    pixels[:, 1:, :] = 0
    cells = [png(image) for image in pixels]
    cells[0] = _padded(cells[0], 784)
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), tmp_path / "rows.parquet")
    score([str(tmp_path)], str(tmp_path / "out"), model=str(scored_model), preprocess="none")
    assert [row["class_id"] for row in rows(tmp_path / "out")] == list(range(count))


def test_a_broken_file_as_large_as_raw_pixels(scored_model: Path, tmp_path: Path) -> None:
    """784 bytes are pixels in a column only: a file is a picture or an error."""
    (tmp_path / "a.png").write_bytes(bytes(784))
    manifest = score([str(tmp_path)], str(tmp_path / "out"), model=str(scored_model))
    assert manifest["errors"] == 1


def _padded(content: bytes, size: int) -> bytes:
    """A PNG with a comment that makes it so large (https://www.w3.org/TR/png-3/#11tEXt)."""
    text = b"tEXtComment\0" + b" " * (size - len(content) - 20)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    padded = content[:33] + chunk + content[33:]
    assert len(padded) == size
    return padded
