"""A model is held to recordings before it is published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from fashion_common.evidence import Evidence
from serving.apis.messages import (
    ClassificationRequest,
    ClassificationResponse,
    ModelSpec,
    PredictionLog,
    PredictRequest,
    PredictResponse,
)
from serving.apis.recordings import prediction_log
from tests.support.exports import encoded, invoke, make_run, manifest, pictures, small_model
from tests.support.records import image_log, sure_of, write_recording
from training.errors import TrainingUsageError
from training.export.garments import Garments
from training.export.golden import image_example
from training.export.replay import replay
from training.export.trained import TrainedModel
from training.fit.evaluate import predict, scale

_IMAGES = pictures(20)


@pytest.fixture(scope="module")
def candidate() -> TrainedModel:
    """The model of the exported run."""
    return TrainedModel(Garments(small_model()), "a-run", ())


@pytest.fixture(scope="module")
def probabilities() -> npt.NDArray[np.float32]:
    """What Keras gives for the images."""
    return predict(small_model(), _IMAGES)


@pytest.fixture
def recording(probabilities: npt.NDArray[np.float32], tmp_path: Path) -> Path:
    """Twenty answers of which the first two are of other classes than the model's."""
    others = sure_of(*((probabilities[:2].argmax(axis=1) + 1) % 10))
    logs = [image_log(_IMAGES[:2], {"probabilities": others})]
    logs += [image_log(_IMAGES[row : row + 3], _best(probabilities[row : row + 3])) for row in range(2, 20, 3)]
    return write_recording(tmp_path / "a.tfrecord", *logs)


def _best(rows: npt.NDArray[np.float32]) -> dict[str, npt.ArrayLike]:
    return {"probabilities": rows, "class_ids": rows.argmax(axis=1)}


def test_answers_are_compared_with_the_recorded_ones(candidate: TrainedModel, recording: Path) -> None:
    """Row by row; the baseline is what was recorded, with the version that answered."""
    evidence = replay(candidate, "fashion_mnist", [recording])
    assert (evidence.compared, evidence.agreeing) == (20, 18)
    assert (evidence.baseline.name, evidence.baseline.version) == ("recorded", 6)
    assert (evidence.candidate.name, evidence.candidate.version, evidence.candidate.refused) == ("a-run", None, 0)
    assert (evidence.model_name, evidence.inputs) == ("fashion_mnist", (str(recording),))
    assert {example.name for example in evidence.examples} == {f"{recording}[1][0]", f"{recording}[1][1]"}


def test_every_signature_of_predict_is_replayed(
    candidate: TrainedModel, probabilities: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    """Pixels, floats, files, examples; no signature is the default; calls of Classify itself are passed over."""
    files = np.array([encoded(image, "PNG") for image in _IMAGES[:2]], object)
    examples = np.array([image_example(file).SerializeToString() for file in files], object)
    answers = {"probabilities": probabilities[:2]}
    classify = ClassificationRequest(model_spec=ModelSpec(name="m", signature_name="classify"))
    path = write_recording(
        tmp_path / "a",
        image_log(_IMAGES[:2], answers, signature=""),
        image_log(scale(_IMAGES[:2]), answers, signature="float_images"),
        image_log(files, answers, name="image_bytes", signature="encoded_images", version=7),
        image_log(examples, {"scores": probabilities[:2]}, name="inputs", signature="classify"),
        prediction_log(classify, ClassificationResponse()),
    )
    evidence = replay(candidate, "m", [path])
    assert (evidence.compared, evidence.agreeing, evidence.baseline.version) == (8, 8, None)
    assert evidence.largest_difference is not None
    assert evidence.largest_difference < 1e-5


def test_requests_that_the_model_cannot_run_are_refused(candidate: TrainedModel, tmp_path: Path) -> None:
    """A signature or an input that it has not, a shape that does not fit, a file that is no picture."""
    answers = {"probabilities": sure_of(0)}
    path = write_recording(
        tmp_path / "a",
        image_log(_IMAGES[:1], answers, signature="other"),
        image_log(_IMAGES[:1], answers, name="pixels"),
        image_log(_IMAGES[:1, :27], answers),
        image_log(np.array([b"no picture"], object), answers, name="image_bytes", signature="encoded_images"),
    )
    evidence = replay(candidate, "m", [path])
    assert (evidence.compared, evidence.candidate.refused) == (0, 4)
    assert evidence.candidate.refusal == f"{path}[1]: there is no signature 'other'"


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (image_log(_IMAGES[:1]), "an answer without probabilities [N, 10]: give recordings of answered requests"),
        (image_log(_IMAGES[:1], {"probabilities": np.zeros((1, 3))}), "an answer without probabilities [N, 10]"),
        (
            prediction_log(PredictRequest(model_spec=ModelSpec(name="m")), PredictResponse()),
            "a request without its inputs, as of a server that records answers only",
        ),
    ],
    ids=["unanswered", "three classes", "answers only"],
)
def test_records_that_say_nothing_are_named(
    candidate: TrainedModel, log: PredictionLog, error: str, tmp_path: Path
) -> None:
    """Asked wrongly: exit code 2."""
    path = write_recording(tmp_path / "a", log)
    with pytest.raises(TrainingUsageError, match=re.escape(f"{path}[1]: {error}")):
        replay(candidate, "m", [path])


def test_a_broken_tensor_is_named(candidate: TrainedModel, tmp_path: Path) -> None:
    """With what is wrong with it."""
    log = image_log(_IMAGES[:1], {"probabilities": sure_of(0)})
    log.predict_log.request.inputs["images"].tensor_content = b"short"
    with pytest.raises(TrainingUsageError, match=r"a\[1\]: tensor_content has 5 bytes"):
        replay(candidate, "m", [write_recording(tmp_path / "a", log)])


@pytest.mark.usefixtures("steps_here")
def test_a_model_that_disagrees_is_refused_with_the_figures(run: Path, base: Path, recording: Path) -> None:
    """At the minimum it is published, and the manifest has the evidence; --force publishes what is refused."""
    demands = ("export", run, "--model-base-path", base, "--no-lite", "--replay", recording, "--min-agreement")
    result = invoke(*demands, 0.95)
    assert (result.exit_code, result.stdout) == (1, "")
    objection = "agreement 0.9000 (95 % interval 0.6990 to 0.9721, 20 inputs) is below 0.95"
    assert result.stderr == f"Error: Not exported: {objection} (--force exports it all the same)\n"
    assert not base.exists()
    result = invoke(*demands, 0.9)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    assert "Replayed: 18 of 20 inputs have the recorded class\n" in result.stderr
    written = manifest(base / "1")
    evidence = Evidence.from_json(written["replay"])
    assert (evidence.compared, evidence.agreeing, evidence.examples) == (20, 18, ())
    assert (written["replay"]["agreement"], written["forced"]) == (0.9, [])
    result = invoke(*demands, 0.95, "--force")
    assert f"Forced: {objection}\n" in result.stderr
    assert manifest(base / "2")["forced"] == [objection]


@pytest.mark.usefixtures("steps_here")
def test_nine_of_ten_must_agree_unless_said_otherwise(
    run: Path, base: Path, probabilities: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    """A recording of the very model holds; one of 8 of 10 does not."""
    classes = probabilities[:10].argmax(axis=1)
    classes[:2] = (classes[:2] + 1) % 10
    path = write_recording(tmp_path / "a", image_log(_IMAGES[:10], {"probabilities": sure_of(*classes)}))
    result = invoke("export", run, "--model-base-path", base, "--no-lite", "--replay", path)
    assert (result.exit_code, "agreement 0.8000" in result.stderr, "below 0.9 " in result.stderr) == (1, True, True)


class _NaN(keras.layers.Layer):  # type: ignore[misc]
    """Nothing but NaN."""

    def call(self, inputs: Any) -> Any:
        return inputs * float("nan")


def test_a_model_that_answers_nan_is_no_candidate(recording: Path) -> None:
    """Its answers agree with nothing, and are told."""
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10), _NaN()])
    evidence = replay(TrainedModel(Garments(model), "broken", ()), "m", [recording])
    assert (evidence.agreeing, evidence.candidate.not_numbers) == (0, 20)


def test_an_agreement_without_recordings_is_asked_wrongly(tmp_path: Path) -> None:
    """There is nothing to agree with; a recording that is not there is named."""
    result = invoke("export", tmp_path, "--min-agreement", 0.9)
    assert result.exit_code == 2
    assert "--min-agreement belongs to --replay" in result.stderr
    run = make_run(tmp_path / "run")
    result = invoke("export", run, "--replay", tmp_path / "missing")
    assert (result.exit_code, "missing' does not exist" in result.stderr) == (2, True)
    (tmp_path / "empty").mkdir()
    result = invoke("export", run, "--replay", tmp_path / "empty")
    assert result.exit_code == 2
    assert f"no recordings in {tmp_path / 'empty'}: name a file that was recorded" in result.stderr
