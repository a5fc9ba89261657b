"""The warmup file: what TensorFlow Serving replays before a version becomes AVAILABLE."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf

from training.errors import TrainingUsageError
from training.export.warmup import write_warmup


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
