"""Requests and answers recorded at the client, over both APIs, by the library and by `fashion predict --record`."""

from __future__ import annotations

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import client.aio
from client import ClientError, ClientUsageError, ModelSpec, Prediction, Recorder, ServerError, connect
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.transports.rest_messages import predict_response
from client.types import Output, Signature, TensorInfo
from serving.apis import tensors
from serving.apis.messages import DT_FLOAT, DT_INT64, DT_STRING, PredictionLog
from serving.apis.recordings import exchange, has_inputs, read_recording
from tests.support.client_commands import APIS
from tests.support.records import file_size_limit
from tests.support.road import Road

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)


def check(log: PredictionLog, predictions: list[Prediction], version: int | None) -> None:
    """A record of IMAGES and these predictions. version: that answered, or None where that is not known."""
    request, response = exchange(log).request, exchange(log).response
    assert np.array_equal(tensors.make_ndarray(request.inputs["images"]), IMAGES)
    probabilities = tensors.make_ndarray(response.outputs["probabilities"])
    assert np.allclose(probabilities, [prediction.probabilities for prediction in predictions])
    assert {name: tensor.dtype for name, tensor in response.outputs.items()} == {
        "probabilities": DT_FLOAT, "class_ids": DT_INT64, "class_names": DT_STRING,
    }  # fmt: skip
    spec = log.log_metadata.model_spec
    assert (spec.name, spec.signature_name) == ("fashion_mnist", "serving_default")
    assert (spec.version.value if spec.HasField("version") else None) == version
    assert log.log_metadata.sampling_config.sampling_rate == 1


@APIS
def test_requests_and_answers_are_recorded(road: Road, tmp_path: Path, api: str) -> None:
    """As sent and as received; REST tells the version only to those who ask for it by its number."""
    with Recorder(tmp_path / "r") as recorder:
        with connect(road.servers[api], recorder=recorder) as connection:
            predictions = connection.predict(IMAGES, signature_name="serving_default")
            version = connection.metadata().version
            connection.status()
        asked = ModelSpec(version=version)
        with connect(road.servers[api], model=asked, recorder=recorder) as connection:
            connection.predict(IMAGES, signature_name="serving_default")
    newest, by_number = read_recording(tmp_path / "r")
    check(newest, predictions, version if api == "grpc" else None)
    check(by_number, predictions, version)
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


@APIS
def test_an_async_connection_records_the_same(road: Road, tmp_path: Path, api: str) -> None:
    """Byte for byte but for the time."""

    async def ask(recorder: Recorder) -> None:
        async with client.aio.connect(road.servers[api], recorder=recorder) as connection:
            await connection.predict(IMAGES)

    with Recorder(tmp_path / "async") as recorder:
        asyncio.run(ask(recorder))
    with Recorder(tmp_path / "sync") as recorder, connect(road.servers[api], recorder=recorder) as connection:
        connection.predict(IMAGES)
    (one,), (other,) = read_recording(tmp_path / "async"), read_recording(tmp_path / "sync")
    for log in (one, other):
        log.log_metadata.ClearField("timestamp_secs")
    assert one == other
    assert has_inputs(one)


def test_threads_share_a_recorder(road: Road, tmp_path: Path) -> None:
    """No record is lost or torn."""
    with (
        Recorder(tmp_path / "r") as recorder,
        connect(road.servers["grpc"], recorder=recorder) as connection,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(lambda _: connection.predict(IMAGES), range(40)))
    assert len(list(read_recording(tmp_path / "r"))) == 40


def test_a_request_that_fails_is_not_recorded(road: Road, tmp_path: Path) -> None:
    """A file without a record is removed: its name can be given again."""
    for _ in range(2):
        with Recorder(tmp_path / "r") as recorder, connect(road.servers["grpc"], recorder=recorder) as connection:
            connection.metadata()
            connection.model = ModelSpec(version=99)
            with pytest.raises(ServerError):
                connection.predict(IMAGES)
            assert (tmp_path / "r").exists()
        assert not (tmp_path / "r").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """A recording is a new file."""
    (tmp_path / "r").write_bytes(b"kept")
    with pytest.raises(ClientUsageError, match="r exists, and a recording is a new file: give another name"):
        Recorder(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == b"kept"


def test_a_full_disk_is_told(road: Road, tmp_path: Path) -> None:
    """Whoever asked for a recording is not to believe that there is one; what was recorded before stays."""
    with (
        Recorder(tmp_path / "r") as recorder,
        connect(road.servers["grpc"], recorder=recorder) as connection,
    ):
        connection.predict(IMAGES)
        with (
            file_size_limit((tmp_path / "r").stat().st_size + 1),
            pytest.raises(ClientError, match=r"r cannot be written to: File too large: make room, or record less"),
        ):
            connection.predict(IMAGES)
    assert len(list(read_recording(tmp_path / "r"))) == 1


def test_an_answer_that_the_metadata_do_not_know() -> None:
    """As that of a version that has come since they were read."""
    signature = Signature({}, {"y": TensorInfo("DT_FLOAT", (-1,))}, "")
    single = predict_response({"": Output((1,), [1.5])}, signature)
    assert list(single.outputs) == ["y"]
    for values in ({"z": Output((1,), [1.5])}, {"": Output((1,), [1.5])}):
        with pytest.raises(ServerError, match="is not in the metadata: has another version answered"):
            predict_response(values, Signature({}, {}, "") if "" in values else signature)


def test_a_transport_without_messages_is_not_recorded(tmp_path: Path) -> None:
    """As the one for tests."""
    with (
        Recorder(tmp_path / "r") as recorder,
        Connection([FakeTransport()], ModelSpec(), recorder=recorder) as connection,
    ):
        assert len(connection.predict(IMAGES)) == 3
