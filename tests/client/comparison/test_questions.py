"""The inputs of a comparison: whatever they come from, they are asked in batches and can be shown."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.comparison.questions import RecordedQuestion, image_questions, questions, recorded_questions
from client.comparison.sides import RecordedSide
from client.connection import Connection
from client.errors import ClientUsageError, ImageError
from client.pictures.images import png
from client.pictures.sources import array_blocks
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import ModelSpec
from serving.apis.messages import (
    ClassificationRequest,
    ClassificationResponse,
    PredictRequest,
    PredictResponse,
)
from serving.apis.messages import ModelSpec as ModelSpecMessage
from serving.apis.recording_files import RecordingFile
from serving.apis.recordings import RecordingError, prediction_log
from serving.apis.tensors import make_tensor_proto
from tests.support.records import image_log, sure_of, write_recording

_IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
_SPEC = ModelSpecMessage(name="m", signature_name="s")


def _recording(path: Path, *inputs: npt.ArrayLike, name: str = "images") -> Path:
    with RecordingFile(path) as file:
        for values in inputs:
            request = PredictRequest(model_spec=_SPEC, inputs={name: make_tensor_proto(values)})
            file.write(prediction_log(request, PredictResponse()))
    return path


def _single(path: Path, *inputs: npt.ArrayLike) -> RecordedQuestion:
    [question] = recorded_questions(_recording(path, *inputs))
    return question


def test_images_are_asked_in_batches_with_their_labels() -> None:
    """Names, pixels and labels stay together; a single question has the first image."""
    batches = list(image_questions(array_blocks(_IMAGES, "a", 2), 2, "float_images", [4, 3, 2, 1, 0]))
    assert [(list(batch.names), batch.labels) for batch in batches] == [
        (["a[0]", "a[1]"], [4, 3]),
        (["a[2]", "a[3]"], [2, 1]),
        (["a[4]"], [0]),
    ]
    assert b"".join(batch.content() for batch in batches) == _IMAGES.tobytes()
    assert batches[1].pixels(1) == _IMAGES[3].tobytes()
    single = batches[1].single()
    assert (single.names, single.content(), single.signature_name) == (["a[2]"], _IMAGES[2].tobytes(), "float_images")


def test_floats_are_asked_as_they_are_and_shown_as_pixels() -> None:
    """Rounded to what they were scaled from."""
    floats = (_IMAGES / 255).astype(np.float32)
    [question] = image_questions(array_blocks(floats, "a", 10))
    assert question.content() == floats.tobytes()
    assert question.pixels(2) == _IMAGES[2].tobytes()


def test_a_record_is_asked_as_it_was(tmp_path: Path) -> None:
    """Signature, names and values, one name a row; of one row its own name."""
    path = _recording(tmp_path / "a", _IMAGES[:2], _IMAGES[2:3])
    first, second = recorded_questions(path)
    assert (first.names, second.names) == ([f"{path}[1][0]", f"{path}[1][1]"], [f"{path}[2]"])
    transport = FakeTransport(class_id=3)
    assert [answer.class_id for answer in first.ask(Connection([transport], ModelSpec()))] == [3, 3]
    [call] = transport.asked
    assert (call.signature_name, list(call.inputs)) == ("s", ["images"])
    assert call.inputs["images"] == ("DT_UINT8", (2, 28, 28), _IMAGES[:2].tobytes())
    assert first.pixels(1) == _IMAGES[1].tobytes()


def test_a_record_is_asked_of_the_version_in_question_and_for_all_outputs(tmp_path: Path) -> None:
    """Whatever model, label and outputs the recorded request named; the record itself stays as it is."""

    class Keeping(FakeTransport):
        def message(self, request: Any) -> Exchange[Any]:
            kept.append(request)
            return super().message(request)

    kept: list[PredictRequest] = []
    spec = ModelSpecMessage(name="m", signature_name="s", version_label="stable")
    request = PredictRequest(model_spec=spec, inputs={"x": make_tensor_proto(_IMAGES[:1])}, output_filter=["class_ids"])
    with RecordingFile(tmp_path / "a") as file:
        file.write(prediction_log(request, PredictResponse()))
    [question] = recorded_questions(tmp_path / "a")
    question.ask(Connection([Keeping()], ModelSpec("other", 7)))
    [sent] = kept
    assert (sent.model_spec.name, sent.model_spec.version.value) == ("other", 7)
    assert (sent.model_spec.signature_name, list(sent.output_filter)) == ("s", [])
    assert question.log.request == request


@pytest.mark.parametrize(
    ("values", "pixels"),
    [
        ((_IMAGES[:1] / 255).astype(np.float32), _IMAGES[0].tobytes()),
        (_IMAGES[:1].reshape(1, 784), _IMAGES[0].tobytes()),
        (np.full((1, 784), np.nan, np.float32), bytes(784)),
        (np.full((1, 784), 7, np.float32), b"\xff" * 784),
        (np.full((1, 784), -np.inf, np.float32), bytes(784)),
        (np.array([png(_IMAGES[0].tobytes())], object), _IMAGES[0].tobytes()),
        (np.array([[png(_IMAGES[0].tobytes()), b"a text"]], object), _IMAGES[0].tobytes()),
        (np.array([b"no picture"], object), b""),
        (np.zeros((1, 3), np.uint8), b""),
        (np.zeros((1, 784)), b""),
        (np.zeros((1, 784), np.uint8)[0, 0], b""),
    ],
    ids=["floats", "flat", "nan", "unscaled", "infinite", "png", "png and text", "text", "short", "doubles", "scalar"],
)
def test_what_was_recorded_is_shown_where_it_is_an_image(values: npt.ArrayLike, pixels: bytes, tmp_path: Path) -> None:
    """Pixels, scaled floats and picture files; nothing else has a picture."""
    assert _single(tmp_path / "a", values).pixels(0) == pixels


def test_several_inputs_have_no_picture(tmp_path: Path) -> None:
    """Which of them it would be is not known; their bytes count in the order of their names."""
    request = PredictRequest(
        model_spec=_SPEC, inputs={"b": make_tensor_proto(_IMAGES[:1]), "a": make_tensor_proto([b"x"])}
    )
    with RecordingFile(tmp_path / "a") as file:
        file.write(prediction_log(request, PredictResponse()))
    [question] = recorded_questions(tmp_path / "a")
    assert question.pixels(0) == b""
    assert question.content() == b"x" + _IMAGES[0].tobytes()


def test_records_of_other_methods_and_without_rows_are_passed_over(tmp_path: Path) -> None:
    """Only Predict is compared."""
    with RecordingFile(tmp_path / "a") as file:
        file.write(prediction_log(ClassificationRequest(model_spec=_SPEC), ClassificationResponse()))
        request = PredictRequest(model_spec=_SPEC, inputs={"images": make_tensor_proto(_IMAGES[:0])})
        file.write(prediction_log(request, PredictResponse()))
    assert list(recorded_questions(tmp_path / "a")) == []


def test_records_that_cannot_be_sent_again_are_named(tmp_path: Path) -> None:
    """One without inputs, one whose tensor is broken, a damaged file."""
    with RecordingFile(tmp_path / "answers") as file:
        file.write(prediction_log(PredictRequest(model_spec=_SPEC), PredictResponse()))
    with pytest.raises(ClientUsageError, match=r"answers\[1\]: a request without its inputs"):
        list(recorded_questions(tmp_path / "answers"))
    broken = make_tensor_proto(_IMAGES)
    broken.tensor_content = b"short"
    with RecordingFile(tmp_path / "broken") as file:
        request = PredictRequest(model_spec=_SPEC, inputs={"images": broken})
        file.write(prediction_log(request, PredictResponse()))
    with pytest.raises(ClientUsageError, match=r"broken\[1\]: tensor_content has 5 bytes"):
        list(recorded_questions(tmp_path / "broken"))
    damaged = _recording(tmp_path / "damaged", _IMAGES)
    damaged.write_bytes(damaged.read_bytes()[:-5] + b"\0" * 5)
    with pytest.raises(RecordingError, match=f"{damaged}: corrupted record at 0"):
        list(questions([str(damaged)]))


def test_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    """A recording may have any name; the order of what was given stays, a directory of recordings in it."""
    (tmp_path / "recordings").mkdir()
    recording = _recording(tmp_path / "recordings" / "recording.png", _IMAGES[:1])
    np.save(tmp_path / "a.npy", _IMAGES[:2])
    gray = np.zeros((28, 28), np.uint8)
    gray[7:21] = 200
    (tmp_path / "b.png").write_bytes(png(gray.tobytes()))
    paths = list(map(str, [tmp_path / "a.npy", tmp_path / "b.png", recording, recording.parent, tmp_path / "b.png"]))
    asked = list(questions(paths))
    assert [len(question.names) for question in asked] == [3, 1, 1, 1]
    assert [type(question) is RecordedQuestion for question in asked] == [False, True, True, False]
    assert (
        b"".join(question.content() for question in asked)
        == np.stack([_IMAGES[0], _IMAGES[1], gray, _IMAGES[0], _IMAGES[0], gray]).tobytes()
    )


def test_a_bad_picture_ends_a_comparison(tmp_path: Path) -> None:
    """Of fewer inputs than were named it would mislead; so does a file that is no recording after all."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png: "):
        list(questions([str(tmp_path / "bad.png")]))
    (tmp_path / "cut").write_bytes(struct.pack("<Q", 3))
    with pytest.raises(ImageError, match="cut: "):
        list(questions([str(tmp_path / "cut")]))


def test_recorded_answers_are_predictions(tmp_path: Path) -> None:
    """One a row; a request without its answer is named by its first row."""
    path = write_recording(
        tmp_path / "r", image_log(_IMAGES[:2], {"probabilities": sure_of(3, 4)}), image_log(_IMAGES[:2])
    )
    answered, unanswered = recorded_questions(path)
    assert [prediction.class_id for prediction in answered.recorded()] == [3, 4]
    assert answered.single() is answered
    with pytest.raises(ClientUsageError) as raised:
        unanswered.recorded()
    assert str(raised.value) == (f"{path}[2][0]: a request without its answer: name a version as the baseline")


def test_the_versions_of_recorded_answers(tmp_path: Path) -> None:
    """One that gave them all is the side's; of several there is none."""
    answers = {"probabilities": sure_of(3)}
    logs = [image_log(_IMAGES[:1], answers, version=version) for version in (6, 6, 7)]
    side = RecordedSide()
    assert (side.side.name, side.side.version) == ("recorded", None)
    for question, version in zip(recorded_questions(write_recording(tmp_path / "r", *logs)), (6, 6, None), strict=True):
        assert side.answers(question)[0].class_id == 3
        assert side.side.version == version


@pytest.mark.parametrize("path", ["x" * 5000, "nowhere"])
def test_a_name_that_no_file_has_is_no_recording(path: str) -> None:
    """Whoever reads it says so."""
    with pytest.raises(ImageError):
        list(questions([path]))
