"""The warmup file: what TensorFlow Serving replays before a version becomes AVAILABLE."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import text_format

from serving.apis import CONFIG_DIR
from serving.apis.messages import BatchingParameters
from training.errors import TrainingUsageError
from training.export.warmup import batch_sizes, write_warmup

BATCHING_CONFIG = CONFIG_DIR / "batching.config"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The records of a file for two batch sizes, as TensorFlow's own reader gives them."""
    path = tmp_path_factory.mktemp("1") / "assets.extra" / "tf_serving_warmup_requests"
    assert write_warmup(path, "fashion_mnist", [1, 8]) == 8
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
        write_warmup(tmp_path / "1" / "warmup", "fashion_mnist", list(range(1, 252)))


def test_the_batch_sizes_are_those_of_the_server_s_configuration() -> None:
    """serving/config/batching.config allows any size up to its greatest, of which 128 are warmed."""
    assert batch_sizes(BATCHING_CONFIG) == [1, 128]
    assert text_format.Parse(BATCHING_CONFIG.read_text(), BatchingParameters()).max_batch_size.value == 8192


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("max_batch_size { value: 32 } num_batch_threads { value: 4 }", [1, 32]),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 2 max_batch_size { value: 8 }", [2, 8]),
        ("", [1]),
    ],
    ids=["any size", "allowed sizes", "nothing"],
)
def test_without_allowed_sizes_one_and_the_greatest_are_warmed(tmp_path: Path, text: str, sizes: list[int]) -> None:
    """Any size may come then: the ends are enough."""
    (tmp_path / "batching.config").write_text(text)
    assert batch_sizes(tmp_path / "batching.config") == sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allowed_batch_sizes: many", "is not BatchingParameters in text protobuf: 1:22 : "),
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
