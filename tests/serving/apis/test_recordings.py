"""What a record holds, and how recordings are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.apis import messages
from serving.apis.recording_files import RecordingFile
from serving.apis.recordings import (
    Origin,
    RecordingError,
    exchange,
    has_inputs,
    log_bytes,
    log_metadata,
    prediction_log,
    read_recording,
    recordings_at,
)
from tests.support.records import TRACEPARENT, predict_log
from tests.support.tfrecords import write_records


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recording of three requests."""
    path = tmp_path / "recording.tfrecord"
    with RecordingFile(path) as recording:
        for number in range(3):
            recording.write(predict_log(number))
    return path


def test_tensorflow_reads_a_recording(file: Path) -> None:
    """tf.data gives the records, tensorflow-serving-api the messages, to the byte and with all metadata."""
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    assert len(records) == 3
    for number, record in enumerate(records):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.SerializeToString(deterministic=True) == record
        assert tf.make_ndarray(log.predict_log.request.inputs["x"]).tolist() == [number]
        metadata = log.log_metadata
        assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("half_plus_two", 2)
        assert metadata.model_spec.signature_name == "serving_default"
        assert metadata.sampling_config.sampling_rate == 0.25
        assert list(metadata.saved_model_tags) == ["serve"]
        assert metadata.timestamp_secs == 1_700_000_000 + number
        assert metadata.request_origin == f"id-{number};{TRACEPARENT}"
    assert [record.SerializeToString(deterministic=True) for record in read_recording(file)] == records


@pytest.mark.parametrize(
    ("request_class", "field"),
    [
        ("PredictRequest", "predict_log"),
        ("ClassificationRequest", "classify_log"),
        ("RegressionRequest", "regress_log"),
    ],
)
def test_each_method_has_its_log(request_class: str, field: str) -> None:
    """What does not say which version answered, as REST's answers, is recorded with what was asked for."""
    request = getattr(messages, request_class)(model_spec=messages.ModelSpec(name="m", version_label="stable"))
    response = getattr(messages, request_class.replace("Request", "Response"))()
    log = prediction_log(request, response)
    assert log.WhichOneof("log_type") == field
    assert exchange(log).request == request
    assert log.log_metadata.model_spec.version_label == "stable"
    assert log.log_metadata.timestamp_secs > 1_700_000_000
    assert not has_inputs(log)


def test_a_multi_inference_has_the_model_spec_of_its_first_result() -> None:
    """Its tasks are of one model."""
    request = messages.MultiInferenceRequest()
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "m"
    request.input.example_list.examples.add()
    response = messages.MultiInferenceResponse()
    spec = response.results.add().model_spec
    spec.name, spec.version.value, spec.signature_name = "m", 3, "classify"
    log = prediction_log(request, response)
    assert log.log_metadata.model_spec == spec
    assert exchange(log).response == response
    assert has_inputs(log)
    assert prediction_log(request, messages.MultiInferenceResponse()).log_metadata.model_spec.name == "m"


@pytest.mark.parametrize("request_id", ["", "id-1", "a;b", ";", f"x;{TRACEPARENT}"])
@pytest.mark.parametrize("trace", ["", TRACEPARENT])
def test_an_origin_comes_back_as_it_was(request_id: str, trace: str) -> None:
    """Whatever a client's own id looks like."""
    origin = Origin(request_id, trace)
    log = messages.PredictionLog(log_metadata=messages.LogMetadata(request_origin=origin.text))
    assert Origin.of(log) == origin


@pytest.mark.parametrize("missing", [1, 5, 40])
def test_a_torn_last_record_is_passed_over(file: Path, missing: int) -> None:
    """What a killed writer leaves."""
    file.write_bytes(file.read_bytes()[:-missing])
    assert [Origin.of(log).request_id for log in read_recording(file)] == ["id-0", "id-1"]


def test_a_damaged_record_is_an_error(file: Path) -> None:
    """With the file, the place and the fix, after the records before it."""
    content = bytearray(file.read_bytes())
    place = len(content) * 2 // 3
    content[place + 20] ^= 1
    file.write_bytes(content)
    records = read_recording(file)
    assert [Origin.of(next(records)).request_id for _ in range(2)] == ["id-0", "id-1"]
    with pytest.raises(
        RecordingError,
        match=rf"^{file}: corrupted record at {place} \(record 3\): copy the file again, or record anew$",
    ):
        next(records)


@pytest.mark.parametrize("record", [b"", b"\x0a\x7fno message", messages.PredictionLog().SerializeToString()])
def test_a_file_of_other_records_is_an_error(tmp_path: Path, record: bytes) -> None:
    """Whether they are no messages at all, or ones without a request."""
    write_records(tmp_path / "other", [record])
    with pytest.raises(RecordingError, match="other: record 1 is no PredictionLog with a request: give a file that"):
        list(read_recording(tmp_path / "other"))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Its path and the reason are told."""
    with pytest.raises(RecordingError, match="none cannot be read: No such file or directory: give a recording's path"):
        list(read_recording(tmp_path / "none"))
    with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
        list(read_recording(tmp_path))


def test_a_directory_stands_for_its_recordings(tmp_path: Path) -> None:
    """By their names, which sort by age; other files are no recordings, and a path that is no directory is itself."""
    for name in ("2.tfrecord", "1.tfrecord"):
        with RecordingFile(tmp_path / name) as file:
            file.write(predict_log(1))
    (tmp_path / "notes.txt").write_text("of last week")
    (tmp_path / "older").mkdir()
    assert recordings_at(tmp_path) == [tmp_path / "1.tfrecord", tmp_path / "2.tfrecord"]
    assert recordings_at(tmp_path / "older") == []
    assert recordings_at(tmp_path / "missing") == [tmp_path / "missing"]


def test_a_record_of_bytes_is_the_record_of_its_messages() -> None:
    """In pieces of any size, for every method."""
    for name in ("PredictRequest", "ClassificationRequest", "RegressionRequest", "MultiInferenceRequest"):
        request = getattr(messages, name)()
        response = getattr(messages, name.replace("Request", "Response"))()
        if name == "MultiInferenceRequest":
            request.tasks.add().model_spec.name = response.results.add().model_spec.name = "m" * 300
        else:
            request.model_spec.name = response.model_spec.name = "m" * 300
        origin = Origin("id", TRACEPARENT)
        log = prediction_log(request, response, origin, sampling_rate=0.5, timestamp_secs=7)
        spec = log.log_metadata.model_spec.SerializeToString()
        metadata = log_metadata(spec, origin, sampling_rate=0.5, timestamp_secs=7)
        sent, answered = request.SerializeToString(), response.SerializeToString()
        data = log_bytes(metadata, name, [sent[:5], sent[5:]], [answered[:9], answered[9:]])
        assert messages.PredictionLog.FromString(data) == log
        assert data == log.SerializeToString()


def test_of_several_tasks_the_first_names_the_model() -> None:
    """Where no result does."""
    request = messages.MultiInferenceRequest()
    for name in ("first", "second"):
        request.tasks.add().model_spec.name = name
    log = prediction_log(request, messages.MultiInferenceResponse())
    assert log.log_metadata.model_spec.name == "first"
    empty = prediction_log(messages.MultiInferenceRequest(), messages.MultiInferenceResponse())
    assert empty.log_metadata.model_spec == messages.ModelSpec()
