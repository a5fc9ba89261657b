"""`fashion explain` against a live server, and over transports whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from client.transports.fake import FakeTransport
from client.types import Call, Output, Prediction
from fashion_common.served_model import CLASS_NAMES
from tests.support.client_commands import APIS, answering, run
from tests.support.road import Road


@APIS
def test_it_shows_what_the_model_saw(
    road: Road, predictions: dict[Path, Prediction], pictures: dict[Path, np.ndarray], api: str, tmp_path: Path
) -> None:
    """The picture, its statistics against the training set's, the answers for its variants; all drawn side by side."""
    path, prediction = next(iter(predictions.items()))
    result = run(road, api, "explain", path, "--output", tmp_path / "picture.png")
    assert "mean pixel" in result.output
    assert f"as it is    {prediction.class_name}  {prediction.probability:.4f}\n" in result.output
    with Image.open(tmp_path / "picture.png") as drawing:
        original, saw = (np.asarray(drawing.crop((left, 10, left + 280, 290)).convert("L")) for left in (10, 300))
        bars = np.asarray(drawing)[10:290, 590:]
    np.testing.assert_array_equal(saw[5::10, 5::10], pictures[path])
    assert np.abs(original[5::10, 5::10].astype(int) - pictures[path]).mean() < 20
    # The answer's bar is blue; its middle is in its class's row.
    rows = np.flatnonzero((bars == (9, 105, 218)).all(axis=2).any(axis=1))
    assert rows.mean() // 28 == prediction.class_id
    report = json.loads(run(road, api, "explain", path, "--json").output)
    assert sorted(report["answers"]) == ["as it is", "inverted", "trimmed"]
    assert [line[6:] for line in result.output.splitlines() if line.startswith("hint: ")] == report["hints"]


def test_it_hints_at_a_light_background(road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path) -> None:
    """The usual mistake: a dark garment on white, sent as it is."""
    path = tmp_path / "inverted.png"
    Image.fromarray(255 - next(iter(pictures.values()))).save(path)
    result = run(road, "grpc", "explain", path)
    assert result.exit_code == 0
    hints = [line for line in result.output.splitlines() if line.startswith("hint: ")]
    assert len(hints) == 1, result.output
    assert result.stderr == (
        f"Warning: {path}: lighter than the training set: is the background light? --preprocess photo makes it black\n"
    )


def test_a_drawing_that_cannot_be_written_is_an_error_and_leaves_nothing(
    road: Road, pictures: dict[Path, np.ndarray], tmp_path: Path
) -> None:
    """Formats that no picture is written in are named; a file appears only when it is whole."""
    path = next(iter(pictures))
    (tmp_path / "no.png").write_bytes(b"")
    for output, text in (
        (tmp_path / "drawing.psd", "no picture can be written as .psd: name it .png"),
        (tmp_path / "drawing.txt", "no picture can be written as .txt: name it .png"),
        (tmp_path / "no.png" / "a.png", "cannot be written"),
    ):
        result = run(road, "grpc", "explain", path, "--output", output)
        assert (result.exit_code, result.stdout) == (2, "")
        assert text in result.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["no.png"]
    assert run(road, "grpc", "explain", path, "--output", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


class _Sure(FakeTransport):
    """Answers an image, its negative and its trimmed self with these classes and how sure it is of each."""

    def __init__(self, *answers: tuple[int, float]) -> None:
        super().__init__()
        self.answers = answers

    def outputs(self, call: Call) -> dict[str, Output]:
        """Of the three."""
        self.asked.append(call)
        rows = []
        for class_id, sure in self.answers:
            row = [(1 - sure) / 9] * 10
            row[class_id] = sure
            rows += row
        return {"probabilities": Output((len(self.answers), 10), rows)}


def _garment(path: Path) -> np.ndarray:
    """A small light garment on black, as a ready picture in a file."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 9:19] = 200
    Image.fromarray(image).save(path)
    return image


_MOST = "trimmed, it would be Trouser (60%), not Bag (55%): let the garment fill the frame"
_UNSURE = "the model is unsure: is the garment one of the ten classes, seen from the front?"


@pytest.mark.parametrize(
    ("answers", "hints"),
    [
        (((8, 0.55), (1, 0.9), (8, 0.99)), []),
        (((8, 0.55), (8, 0.9), (1, 0.6)), [_MOST]),
        (((8, 0.55), (8, 0.9), (1, 0.55)), []),
        (((8, 0.5), (8, 0.9), (8, 0.9)), []),
        (((8, 0.499), (8, 0.9), (8, 0.9)), [_UNSURE]),
        (((8, 0.4), (8, 0.9), (1, 0.6)), [_MOST.replace("55%", "40%")]),
    ],
)
def test_hints_are_what_would_be_answered_with_more_certainty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: Sequence[tuple[int, float]], hints: list[str]
) -> None:
    """Of another class; the negative counts only where the border is light, and a doubt where nothing else helps."""
    image = _garment(tmp_path / "a.png")
    transport = _Sure(*answers)
    fashion_command = answering(monkeypatch, transport)
    result = fashion_command("explain", tmp_path / "a.png", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["hints"] == hints
    assert (report["mean"], report["ink"]) == (pytest.approx(200 * 200 / 784), pytest.approx(200 / 784))
    assert [(name, each["class_id"], each["probability"]) for name, each in report["answers"].items()] == [
        (name, class_id, sure)
        for name, (class_id, sure) in zip(("as it is", "inverted", "trimmed"), answers, strict=True)
    ]
    content = transport.asked[0].inputs["images"].content
    assert content[:1568] == image.tobytes() + (255 - image).tobytes()
    result = fashion_command("explain", tmp_path / "a.png")
    *drawn, empty, mean, ink, blank, first, second, third = result.stdout.splitlines()[: -len(hints) or None]
    assert (len(drawn), empty, blank) == (14, "", "")
    assert mean == "mean pixel    51.0   in the training set 72.9"
    assert ink == "not black    25.5%   in the training set 49.8%"
    names = {8: "Bag", 1: "Trouser"}
    expected = [f"{names[class_id]}  {sure:.4f}" for class_id, sure in answers]
    assert [first, second, third] == [
        f"as it is    {expected[0]}",
        f"inverted    {expected[1]}",
        f"trimmed     {expected[2]}",
    ]
    assert result.stdout.splitlines()[14 + 7 :] == [f"hint: {hint}" for hint in hints]


@pytest.mark.filterwarnings("ignore::client.ImageWarning")
def test_a_light_border_hints_at_the_background(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the hint at the size."""
    Image.fromarray(255 - _garment(tmp_path / "a.png")).save(tmp_path / "a.png")
    fashion_command = answering(monkeypatch, _Sure((8, 0.55), (9, 0.75), (1, 0.6)))
    assert json.loads(fashion_command("explain", tmp_path / "a.png", "--json").stdout)["hints"] == [
        _MOST,
        "inverted, it would be Ankle boot (75%), not Bag (55%): the background should be black for the model",
    ]


def test_the_drawing_is_laid_out_in_three_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The picture as it was, what was seen of it, and ten rows of 28 pixels: name, bar, number; ten pixels apart."""
    picture = Image.new("RGB", (56, 28), (0, 0, 255))
    picture.paste((255, 128, 0), (14, 7, 28, 21))
    picture.save(tmp_path / "a.bmp")
    result = answering(monkeypatch, _Sure((8, 0.55), (8, 0.5), (8, 0.5)))(
        "explain", tmp_path / "a.bmp", "--preprocess", "none", "--output", tmp_path / "drawing"
    )
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "drawing") as file:
        drawing = file.convert("RGB")
    expected = Image.new("RGB", (880, 300), "white")
    expected.paste(picture.resize((280, 140), Image.Resampling.BICUBIC), (10, 80))
    saw = picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    expected.paste(saw.resize((280, 280), Image.Resampling.NEAREST), (300, 10))
    draw, font = ImageDraw.Draw(expected), ImageFont.load_default(14)
    for class_id, name in enumerate(CLASS_NAMES):
        top, is_answer = 10 + 28 * class_id, class_id == 8
        draw.text((590, top + 4), name, "#1f2328", font)
        draw.text((820, top + 4), "0.55" if is_answer else "0.05", "#1f2328", font)
        right = 680 + (72 if is_answer else 6)
        draw.rectangle((680, top + 4, right, top + 24), "#0969da" if is_answer else "#afb8c1")
    np.testing.assert_array_equal(np.asarray(drawing), np.asarray(expected))


@pytest.mark.parametrize(("name", "form"), [("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("a", "PNG")])
def test_a_drawings_form_is_that_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, form: str
) -> None:
    """Whatever its case; PNG without one."""
    _garment(tmp_path / "in.png")
    result = answering(monkeypatch, _Sure((8, 0.55), (8, 0.5), (8, 0.5)))(
        "explain", tmp_path / "in.png", "--output", tmp_path / name
    )
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / name) as drawing:
        assert drawing.format == form
