"""The warmup requests of an exported version, asked of the embedded server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from fashion_common.layout import WARMUP_FILE
from tests.support.exports import small_model
from tests.support.live import running
from training.export.garments import warmup_records
from training.export.signatures import write_saved_model
from training.export.warmup import write_warmup

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with its warmup requests."""
    version = tmp_path_factory.mktemp("export") / "fashion_mnist" / "1"
    write_saved_model(small_model(), version)
    write_warmup(version / WARMUP_FILE, "fashion_mnist", warmup_records, list(BATCH_SIZES))
    return version


@pytest.fixture(scope="module")
def server(version: Path) -> Iterator[PredictionServiceStub]:
    """The reference client of a server that serves it."""
    with (
        running("--model_name=fashion_mnist", f"--model_base_path={version.parent}") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        yield PredictionServiceStub(channel)


def test_the_server_answers_every_record_of_the_warmup_file(version: Path, server: PredictionServiceStub) -> None:
    """Every signature, every batch size: as many rows as asked for, each a distribution over the ten classes."""
    answered = []
    for record in tf.data.TFRecordDataset(str(version / WARMUP_FILE)).as_numpy_iterator():
        log = PredictionLog.FromString(record)
        if log.HasField("classify_log"):
            request = log.classify_log.request
            rows = server.Classify(request, timeout=30).result.classifications
            probabilities = np.array([[one.score for one in row.classes] for row in rows])
        else:
            request = log.predict_log.request
            probabilities = tf.make_ndarray(server.Predict(request, timeout=30).outputs["probabilities"])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        answered.append((request.model_spec.signature_name, probabilities.shape))
    names = ("serving_default", "encoded_images", "float_images", "classify")
    assert answered == [(name, (size, 10)) for size in BATCH_SIZES for name in names]
