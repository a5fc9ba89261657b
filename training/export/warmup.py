"""The requests that TensorFlow Serving replays before a version becomes AVAILABLE, so that no client's is the first.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from training.errors import TrainingUsageError
from training.export.decoding import IMAGE_SIZE
from training.export.examples import image_file, tf_example
from training.export.serving_messages import message, read_text

_GREATEST = 128
_MOST_RECORDS = 1000  # TF Serving fails the load of a version with more


def batch_sizes(batching_config: Path) -> list[int]:
    """The batch sizes that a server with this configuration runs: `allowed_batch_sizes`, else 1 and the greatest.

    The greatest is 128 at most: larger batches run the same code, and every record is replayed at each load.

    Raises TrainingUsageError when the file cannot be read as BatchingParameters.
    """
    parameters = read_text(batching_config, "BatchingParameters")
    sizes = sorted(set(parameters.allowed_batch_sizes) or {1, min(parameters.max_batch_size.value or 1, _GREATEST)})
    if sizes[0] < 1:
        raise TrainingUsageError(f"{batching_config} has the batch size {sizes[0]}: at least 1")
    return sizes


def write_warmup(path: Path, model_name: str, sizes: list[int]) -> int:
    """Writes the TFRecord file and gives the number of its records: every signature with every batch size.

    Raises OSError, and TrainingUsageError for more records than TF Serving takes.
    """
    records = [record for size in sizes for record in _records(model_name, size)]
    if len(records) > _MOST_RECORDS:
        raise TrainingUsageError(
            f"{len(sizes)} batch sizes make {len(records)} warmup requests: TensorFlow Serving takes {_MOST_RECORDS}"
        )
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return len(records)


def _records(model_name: str, size: int) -> Iterator[bytes]:
    # A tensor with fewer values than its shape asks for repeats the last: the whole file stays in a few kilobytes.
    # https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
    black = image_file(np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8), "PNG")
    images = [size, IMAGE_SIZE, IMAGE_SIZE]
    tensors = {
        "serving_default": ("images", tf.make_tensor_proto(0, tf.uint8, images)),
        "encoded_images": ("image_bytes", tf.make_tensor_proto(black, tf.string, [size])),
        "float_images": ("images", tf.make_tensor_proto(0, tf.float32, images)),
    }
    for signature, (name, tensor) in tensors.items():
        request = message("PredictRequest", model_spec={"name": model_name, "signature_name": signature})
        request.inputs[name] = tensor.SerializeToString(deterministic=True)
        yield _serialized(message("PredictionLog", predict_log={"request": request}))
    request = message("ClassificationRequest", model_spec={"name": model_name, "signature_name": "classify"})
    request.input.example_list.examples.extend([tf_example(black)] * size)
    yield _serialized(message("PredictionLog", classify_log={"request": request}))


def _serialized(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
