"""The warmup file: what TensorFlow Serving replays before a version becomes AVAILABLE."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from fashion_common.layout import WARMUP_FILE
from fashion_common.served_model import SIGNATURES
from serving.apis import CONFIG_DIR
from serving.apis.messages import (
    BatchingParameters,
    ClassificationRequest,
    ClassificationResponse,
    ModelSpec,
    PredictionLog,
    PredictLog,
    PredictRequest,
    PredictResponse,
)
from serving.apis.recordings import prediction_log
from serving.apis.tensors import make_ndarray
from serving.apis.tfrecord import read_records
from serving.embedded.loading.load import version_load
from serving.embedded.loading.tensorflow.saved_model import load
from serving.embedded.models.storage import VersionDirectory
from tests.support.exports import encoded, invoke, pictures
from tests.support.records import image_log, sure_of, write_recording
from training.errors import TrainingUsageError
from training.export.garments import warmup_records
from training.export.golden import image_example
from training.export.warmup import batch_sizes, write_warmup

BATCHING_CONFIG = CONFIG_DIR / "batching.config"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The records of a file for two batch sizes, as TensorFlow's own reader gives them."""
    path = tmp_path_factory.mktemp("1") / "assets.extra" / "tf_serving_warmup_requests"
    assert write_warmup(path, "fashion_mnist", warmup_records, [1, 8]) == 8
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


def test_every_record_is_a_prediction_log_to_the_byte(records: list[bytes]) -> None:
    """tensorflow-serving-api reads every record, and writes the very same bytes."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    for record in records:
        log = PredictionLog.FromString(record)
        assert log.SerializeToString(deterministic=True) == record
        assert not log.HasField("log_metadata")


def test_every_signature_is_asked_with_every_batch_size(records: list[bytes]) -> None:
    """Tensors have the shapes and dtypes of the signatures, and as many rows as the batch."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    asked: Counter[tuple[object, ...]] = Counter()
    for log in map(PredictionLog.FromString, records):
        if log.HasField("classify_log"):
            request = log.classify_log.request
            examples = request.input.example_list.examples
            files = [example.features.feature["image/encoded"].bytes_list.value[0] for example in examples]
            assert {tf.io.decode_png(file).shape for file in files} == {(28, 28, 1)}
            asked[request.model_spec.name, request.model_spec.signature_name, len(examples)] += 1
        else:
            request = log.predict_log.request
            ((name, tensor),) = request.inputs.items()
            array = tf.make_ndarray(tensor)
            # Black ones.
            assert array.dtype == object or not array.any()
            asked[request.model_spec.name, request.model_spec.signature_name, name, array.dtype.name, array.shape] += 1
    expected: dict[tuple[object, ...], int] = {
        **{("fashion_mnist", "serving_default", "images", "uint8", (size, 28, 28)): 1 for size in (1, 8)},
        **{("fashion_mnist", "encoded_images", "image_bytes", "object", (size,)): 1 for size in (1, 8)},
        **{("fashion_mnist", "float_images", "images", "float32", (size, 28, 28)): 1 for size in (1, 8)},
        **{("fashion_mnist", "classify", size): 1 for size in (1, 8)},
    }
    assert asked == expected


def test_more_records_than_tensorflow_serving_takes_are_refused(tmp_path: Path) -> None:
    """It fails the load of a version with more than 1000."""
    with pytest.raises(TrainingUsageError, match="251 batch sizes make 1004 warmup requests"):
        write_warmup(tmp_path / "1" / "warmup", "fashion_mnist", warmup_records, list(range(1, 252)))


def asking(name: str, size: int) -> list[PredictionLog]:
    """One request without inputs, of a version whose number is the batch size."""
    request = PredictRequest(model_spec=ModelSpec(name=name, signature_name="serving_default"))
    request.model_spec.version.value = size
    return [PredictionLog(predict_log=PredictLog(request=request))]


def test_as_many_records_as_tensorflow_serving_takes_are_written(tmp_path: Path) -> None:
    """1,000, in their order; one more is told."""
    path = tmp_path / "assets.extra/warmup"
    assert write_warmup(path, "m", asking, range(1, 1001)) == 1000
    versions = [
        PredictionLog.FromString(record).predict_log.request.model_spec.version.value for record in read_records(path)
    ]
    assert versions == list(range(1, 1001))
    with pytest.raises(TrainingUsageError) as error:
        write_warmup(path, "m", asking, range(1, 1002))
    assert str(error.value) == "1001 batch sizes make 1001 warmup requests: TensorFlow Serving takes 1000"


def test_the_same_request_for_every_batch_size_is_written_once(tmp_path: Path) -> None:
    """As of a signature with a fixed number of rows; recordings that are of no use are all named."""
    path = tmp_path / "assets.extra/warmup"
    assert write_warmup(path, "m", lambda name, _: asking(name, 1), [1, 2, 8]) == 1
    assert len(list(read_records(path))) == 1
    recordings = [write_recording(tmp_path / name, image_log(pictures(1))) for name in "ab"]
    with pytest.raises(TrainingUsageError) as error:
        write_warmup(path, "m", asking, [1], recordings)
    assert str(error.value) == (
        f"no answered request of the served signatures in {recordings[0]}, {recordings[1]}: "
        "--warmup-from takes recordings of this model"
    )


def test_the_batch_sizes_are_those_of_the_server_s_configuration() -> None:
    """serving/config/batching.config allows any size up to its greatest, of which 128 are warmed."""
    assert batch_sizes(BATCHING_CONFIG) == [1, 128]
    assert text_format.Parse(BATCHING_CONFIG.read_text(), BatchingParameters()).max_batch_size.value == 8192


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("max_batch_size { value: 32 } num_batch_threads { value: 4 }", [1, 32]),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 2 max_batch_size { value: 8 }", [2, 8]),
        ("max_batch_size { value: 128 }", [1, 128]),
        ("max_batch_size { value: 129 }", [1, 128]),
        ("max_batch_size { value: 1 }", [1]),
        ("max_batch_size { value: 4 } a_newer_field: 3", [1, 4]),
        ("allowed_batch_sizes: 300", [300]),
        ("", [1]),
    ],
    ids=["any size", "allowed sizes", "128", "129", "1", "newer", "a large size", "nothing"],
)
def test_without_allowed_sizes_one_and_the_greatest_are_warmed(tmp_path: Path, text: str, sizes: list[int]) -> None:
    """Any size may come then: the ends are enough."""
    (tmp_path / "batching.config").write_text(text)
    assert batch_sizes(tmp_path / "batching.config") == sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allowed_batch_sizes: many", "is not BatchingParameters in text protobuf: 1:22 : "),
        ("allowed_batch_sizes: -1", "has the batch size -1: at least 1"),
        ("allowed_batch_sizes: 0", "has the batch size 0: at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    """The message names the file and what is wrong."""
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(TrainingUsageError) as caught:
        batch_sizes(path)
    assert str(caught.value).startswith(f"{path} {expected}")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(TrainingUsageError, match=f"^Cannot read {tmp_path / 'none'}: No such file or directory$"):
        batch_sizes(tmp_path / "none")


def _keys(path: Path) -> list[tuple[str, int]]:
    """The signature and the number of rows of each record."""
    keys = []
    for log in map(PredictionLog.FromString, read_records(path)):
        if log.HasField("classify_log"):
            request = log.classify_log.request
            keys.append((request.model_spec.signature_name, len(request.input.example_list.examples)))
        else:
            [tensor] = log.predict_log.request.inputs.values()
            keys.append((log.predict_log.request.model_spec.signature_name, tensor.tensor_shape.dim[0].size))
    return keys


def test_recorded_requests_take_the_place_of_made_ones(tmp_path: Path) -> None:
    """The first of each signature and batch size, its inputs as they were, without labels and answers."""
    images = pictures(5)
    answers = {"probabilities": sure_of(0)}
    recording = write_recording(
        tmp_path / "a",
        image_log(images[:1], answers, signature=""),
        image_log(images[1:2], answers),
        image_log(images[:5], answers),
    )
    path = tmp_path / "1" / "warmup"
    assert write_warmup(path, "fashion_mnist", warmup_records, [1], [recording]) == 5
    assert _keys(path) == [(name, 1) for name in SIGNATURES] + [("serving_default", 5)]
    first = PredictionLog.FromString(next(read_records(path)))
    request = first.predict_log.request
    np.testing.assert_array_equal(make_ndarray(request.inputs["images"]), images[:1])
    assert request.model_spec == ModelSpec(name="fashion_mnist", signature_name="serving_default")
    assert not first.HasField("log_metadata")
    assert not first.predict_log.HasField("response")


def test_recorded_classify_requests_warm_up_too(tmp_path: Path) -> None:
    """Those that were answered."""
    spec = ModelSpec(name="m", signature_name="classify", version_label="canary")
    request = ClassificationRequest(model_spec=spec)
    request.input.example_list.examples.extend([image_example(encoded(image, "PNG")) for image in pictures(2)])
    response = ClassificationResponse()
    response.result.classifications.add()
    response.result.classifications.add()
    recording = write_recording(
        tmp_path / "a", prediction_log(request, ClassificationResponse()), prediction_log(request, response)
    )
    path = tmp_path / "1" / "warmup"
    assert write_warmup(path, "fashion_mnist", warmup_records, [1], [recording]) == 5
    assert _keys(path)[-1] == ("classify", 2)
    *_, last = read_records(path)
    assert PredictionLog.FromString(last).classify_log.request.input == request.input


@pytest.mark.parametrize(
    "log",
    [
        image_log(pictures(1)),
        image_log(pictures(1), {"y": [0]}, signature="other"),
        image_log(pictures(1), {"y": [0]}, name="pixels"),
        image_log(pictures(1).astype(np.float32), {"y": [0]}),
        image_log(pictures(1)[:, :27], {"y": [0]}),
        image_log(pictures(1)[:0], {"y": [0]}),
        image_log(np.uint8(0), {"y": [0]}),
        prediction_log(PredictRequest(model_spec=ModelSpec(name="m")), PredictResponse()),
    ],
    ids=["unanswered", "signature", "name", "dtype", "shape", "no rows", "scalar", "answers only"],
)
def test_a_request_that_might_fail_the_load_is_no_warmup(tmp_path: Path, log: PredictionLog) -> None:
    """A server refuses a version whose warmup fails; recordings of nothing else are asked wrongly."""
    recording = write_recording(tmp_path / "a", log)
    with pytest.raises(TrainingUsageError, match=f"no answered request of the served signatures in {recording}"):
        write_warmup(tmp_path / "1" / "warmup", "fashion_mnist", warmup_records, [1], [recording])


def test_no_more_recorded_requests_than_a_server_takes(tmp_path: Path) -> None:
    """1,000 in all: what would be made comes first, then the recorded batch sizes as they came."""
    row = pictures(1)[0]
    logs = [image_log(np.broadcast_to(row, (size, 28, 28)), {"y": [0]}) for size in range(1, 31)]
    # A tensor of few bytes for many rows: readers repeat the last value.
    for size in range(31, 1011):
        log = image_log(row[None], {"y": [0]})
        tensor = log.predict_log.request.inputs["images"]
        tensor.tensor_shape.dim[0].size = size
        tensor.ClearField("tensor_content")
        tensor.int_val.append(1)
        logs.append(log)
    path = tmp_path / "1" / "warmup"
    assert (
        write_warmup(path, "fashion_mnist", warmup_records, [1, 1010], [write_recording(tmp_path / "a", *logs)]) == 1000
    )
    keys = _keys(path)
    assert len(set(keys)) == 1000
    assert keys[:8] == [(name, size) for size in (1, 1010) for name in SIGNATURES]
    assert keys[8:] == [("serving_default", size) for size in range(2, 994)]
    made = list(map(PredictionLog.FromString, read_records(path)))[4]
    assert list(made.predict_log.request.inputs["images"].int_val) == [1]


@pytest.mark.usefixtures("steps_here")
def test_a_server_warms_up_with_what_was_recorded(run: Path, base: Path, tmp_path: Path) -> None:
    """`fashion export --warmup-from`: of every signature; the version loads, and has answered them."""
    images, answers = pictures(3), {"probabilities": sure_of(0, 1, 2)}
    files = np.array([encoded(image, "PNG") for image in images], object)
    write_recording(
        tmp_path / "recordings.tfrecord",
        image_log(images, answers),
        image_log((images / 255).astype(np.float32), answers, signature="float_images"),
        image_log(files, answers, name="image_bytes", signature="encoded_images"),
    )
    result = invoke("export", run, "--model-base-path", base, "--no-lite", "--warmup-from", tmp_path)
    assert result.exit_code == 0, result.stderr
    directory = base / "1"
    assert {(name, 3) for name in ("serving_default", "float_images", "encoded_images")} <= set(
        _keys(directory / WARMUP_FILE)
    )
    version_load(load)("fashion_mnist", 1, VersionDirectory(directory)).close()
