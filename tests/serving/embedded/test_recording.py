"""Recording by a live server: over both ports, by flags and by models.config, through reloads and to its end."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import text_format

from fashion_common.layout import WARMUP_FILE
from serving.apis import messages, services
from serving.apis.messages import PredictionLog, ReloadConfigRequest
from serving.apis.recordings import Origin, exchange, has_inputs, read_recording
from tests.support.asking import call, predict, predict_request
from tests.support.live import Server, free_port, running, wait_until
from tests.support.records import TRACEPARENT

X = np.array([1.0, 2.0], np.float32)
HEADERS = {"x-request-id": "same", "traceparent": TRACEPARENT}


def records(directory: Path) -> list[PredictionLog]:
    """The records of all files in a directory, by time."""
    return [log for path in sorted(directory.iterdir()) for log in read_recording(path)]


def recorded(directory: Path, count: int) -> list[PredictionLog]:
    """The same, once there are so many."""
    wait_until(lambda: len(records(directory)) >= count)
    return records(directory)


def models_config(toys: Path, directory: Path, *names: str, rate: float = 1.0, kind: str = "file") -> str:
    """A configuration of toy models, each with a place of its own."""
    return "".join(
        f"config {{ name: '{name}' base_path: '{toys / name}' model_platform: 'tensorflow' logging_config {{ "
        f"log_collector_config {{ type: '{kind}' filename_prefix: '{directory / name}/r' }} "
        f"sampling_config {{ sampling_rate: {rate} }} }} }}\n"
        for name in names
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server below records."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def server(toys: Path, directory: Path) -> Iterator[Server]:
    """A server that records every request to two models, and none to a third."""
    config = directory.parent / f"{directory.name}.config"
    config.write_text(
        f"model_config_list {{ {models_config(toys, directory, 'half_plus_two', 'tf1')} config {{ name: 'row_mixer' "
        f"base_path: '{toys / 'row_mixer'}' model_platform: 'tensorflow' }} }}"
    )
    flags = (f"--model_config_file={config}", "--metrics_port=0", "--enable_batching")
    with running(*flags) as live:
        yield live


def examples_input() -> messages.Input:
    """Two examples."""
    source = messages.Input()
    for value in (1.0, 3.0):
        source.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return source


BY_METHOD: dict[str, tuple[services.Method, Any, dict[str, Any]]] = {
    "predict": (
        services.PREDICT,
        lambda: predict_request("tf1", {"x": X}, version=123),
        {"inputs": {"x": X.tolist()}},
    ),
    "classify": (
        services.CLASSIFY,
        lambda: messages.ClassificationRequest(model_spec=spec("classify_x_to_y"), input=examples_input()),
        {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}, {"x": 3.0}]},
    ),
    "regress": (
        services.REGRESS,
        lambda: messages.RegressionRequest(model_spec=spec("regress_x_to_y"), input=examples_input()),
        {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 3.0}]},
    ),
}


def spec(signature_name: str) -> messages.ModelSpec:
    """Of version 123 of tf1."""
    asked = messages.ModelSpec(name="tf1", signature_name=signature_name)
    asked.version.value = 123
    return asked


@pytest.mark.parametrize("method", BY_METHOD)
def test_both_ports_make_the_same_record(server: Server, directory: Path, method: str) -> None:
    """Byte for byte, but for the time: what was asked, what was answered, and where it came from."""
    before = len(records(directory / "tf1")) if (directory / "tf1").exists() else 0
    rpc, request, body = BY_METHOD[method]
    with grpc.insecure_channel(server.grpc) as channel:
        answer = call(channel, rpc, request(), metadata=tuple(HEADERS.items()))
    url = f"http://{server.rest}/v1/models/tf1/versions/123:{method}"
    assert httpx.post(url, json=body, headers=HEADERS).status_code == 200
    over_grpc, over_rest = recorded(directory / "tf1", before + 2)[before:]
    for log in (over_grpc, over_rest):
        assert abs(log.log_metadata.timestamp_secs - time.time()) < 60
        log.log_metadata.ClearField("timestamp_secs")
    assert over_grpc.SerializeToString(deterministic=True) == over_rest.SerializeToString(deterministic=True)
    assert exchange(over_grpc).request == request()
    metadata = over_grpc.log_metadata
    assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("tf1", 123)
    assert metadata.model_spec.signature_name == (request().model_spec.signature_name or "serving_default")
    assert (metadata.sampling_config.sampling_rate, list(metadata.saved_model_tags)) == (1.0, ["serve"])
    assert Origin.of(over_grpc) == ("same", TRACEPARENT)
    if method != "predict":
        assert exchange(over_grpc).response == answer


def test_a_multi_inference_is_recorded(server: Server, directory: Path) -> None:
    """With all its tasks; a context is in each of its examples."""
    before = len(records(directory / "tf1")) if (directory / "tf1").exists() else 0
    request = messages.MultiInferenceRequest()
    for kind in ("classify", "regress"):
        request.tasks.add(model_spec=spec(f"{kind}_x_to_y"), method_name=f"tensorflow/serving/{kind}")
    context = request.input.example_list_with_context
    context.examples.add()
    context.context.features.feature["x"].float_list.value.append(3.0)
    with grpc.insecure_channel(server.grpc) as channel:
        answer = call(channel, services.MULTI_INFERENCE, request)
    log = recorded(directory / "tf1", before + 1)[-1].multi_inference_log
    assert log.response == answer
    assert list(log.request.tasks) == list(request.tasks)
    (example,) = log.request.input.example_list.examples
    assert example == context.context


def test_output_filters_and_the_clients_own_form(server: Server, directory: Path) -> None:
    """A tensor is recorded as the model saw it, whichever of its forms was sent."""
    before = len(records(directory / "half_plus_two")) if (directory / "half_plus_two").exists() else 0
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="half_plus_two"), output_filter=["y"])
    request.inputs["x"].dtype = messages.DT_FLOAT
    request.inputs["x"].tensor_shape.dim.add(size=2)
    request.inputs["x"].float_val.append(4.0)
    with grpc.insecure_channel(server.grpc) as channel:
        call(channel, services.PREDICT, request)
    log = recorded(directory / "half_plus_two", before + 1)[-1].predict_log
    assert list(log.request.output_filter) == ["y"]
    assert log.request.inputs["x"].tensor_content == np.array([4.0, 4.0], np.float32).tobytes()
    assert list(log.response.outputs) == ["y"]


def test_a_request_that_fails_is_not_recorded(server: Server, directory: Path) -> None:
    """Nor is one to a model that is not recorded."""
    before = len(records(directory / "half_plus_two")) if (directory / "half_plus_two").exists() else 0
    with grpc.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError):
            predict(channel, "half_plus_two", {"x": np.zeros((2, 2, 2), np.int64)})
        predict(channel, "row_mixer", {"x": X})
        predict(channel, "half_plus_two", {"x": X})
    assert len(recorded(directory / "half_plus_two", before + 1)) == before + 1
    assert not (directory / "row_mixer").exists()


def reload(server: Server, models: str) -> str:
    """The code and the text of a reload's answer."""
    request = text_format.Parse(f"config {{ model_config_list {{ {models} }} }}", ReloadConfigRequest())
    with grpc.insecure_channel(server.grpc) as channel:
        try:
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return "OK"


def test_a_reload_that_cannot_be_followed_changes_nothing(lite_toys: Path, tmp_path: Path) -> None:
    """An unknown type and a new place are refused as a whole; what may be takes over, and ends the old files."""
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {models_config(lite_toys, tmp_path, 'half_plus_two')} }}")
    with (
        running("--runtime=litert", f"--model_config_file={config}") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        predict(channel, "half_plus_two", {"x": X})
        unknown = reload(server, models_config(lite_toys, tmp_path, "half_plus_two", "row_mixer", kind="kafka"))
        assert unknown == (
            "INVALID_ARGUMENT: Model half_plus_two has log_collector_config.type kafka: this server has `file` only"
        )
        assert reload(server, models_config(lite_toys, tmp_path, "row_mixer")).startswith(
            "PERMISSION_DENIED: filename_prefix"
        )
        predict(channel, "half_plus_two", {"x": X})
        assert len(recorded(tmp_path / "half_plus_two", 2)) == 2
        assert reload(server, models_config(lite_toys, tmp_path, "half_plus_two", rate=0)) == "OK"
        predict(channel, "half_plus_two", {"x": X})
        config.write_text("")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
    assert len(records(tmp_path / "half_plus_two")) == 2


def test_a_start_that_cannot_be_followed(lite_toys: Path, tmp_path: Path) -> None:
    """It ends with exit code 2 and the reason."""
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {models_config(lite_toys, tmp_path, 'tf1', kind='kafka')} }}")
    with (
        pytest.raises(
            AssertionError, match=r"exit code 2\): Error: .*log_collector_config.type kafka: this server has"
        ),
        running("--runtime=litert", f"--model_config_file={config}"),
    ):
        pass


def test_the_flags_of_one_model(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """Files are their owner's, whole at SIGTERM, hold answers only when asked to, and no more than they may."""
    flags = (
        f"--record_filename_prefix={tmp_path}/r-", "--record_sampling_rate=1", "--record_answers_only",
        "--record_max_file_bytes=1024", "--record_max_total_bytes=8192",
    )  # fmt: skip
    with running(*lite_flags, *flags) as server, grpc.insecure_channel(server.grpc) as channel:
        for _ in range(100):
            predict(channel, "m", {"x": X})
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    paths = sorted(tmp_path.iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 and path.name.startswith("r-") for path in paths)
    assert 4096 <= sum(path.stat().st_size for path in paths) <= 8192
    logs = records(tmp_path)
    assert not any(has_inputs(log) for log in logs)
    assert all(len(log.predict_log.response.outputs) == 2 for log in logs)


def test_workers_share_a_place(lite_flags: Sequence[str], tmp_path: Path) -> None:
    """Each has a file of its own, and all records are there; the metrics are those of all."""
    flags = (
        "--workers=2", f"--port={free_port()}", f"--rest_api_port={free_port()}", f"--metrics_port={free_port()}",
        f"--record_filename_prefix={tmp_path}/r", "--record_sampling_rate=1",
    )  # fmt: skip
    with running(*lite_flags, *flags) as server:
        for _ in range(40):
            # Each from a connection of its own, so that both workers are asked.
            assert httpx.post(f"http://{server.rest}/v1/models/m:predict", json={"inputs": [1.0]}).status_code == 200
        port = next(flag for flag in flags if flag.startswith("--metrics_port")).partition("=")[2]
        url = f"http://127.0.0.1:{port}/monitoring/prometheus/metrics"
        count = ':fashion:recording:record_count{model_name="m",outcome="written"} 40.0'
        wait_until(lambda: count in httpx.get(url).text)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
    assert len(records(tmp_path)) == 40
    assert len(list(tmp_path.iterdir())) == 2


def test_a_recording_is_a_warmup_file(lite_toys: Path, lite_flags: Sequence[str], tmp_path: Path) -> None:
    """A killed server's files, as they are: the next version is warmed up by what was asked of this one."""
    with (
        running(*lite_flags, f"--record_filename_prefix={tmp_path}/r", "--record_sampling_rate=1") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        for _ in range(10):
            predict(channel, "m", {"x": X})
        assert len(recorded(tmp_path, 10)) == 10
        os.kill(server.process.pid, signal.SIGKILL)
    (path,) = tmp_path.iterdir()
    version = tmp_path / "m" / "1"
    shutil.copytree(lite_toys / "half_plus_two" / "1", version)
    (version / WARMUP_FILE).parent.mkdir()
    shutil.copyfile(path, version / WARMUP_FILE)
    with running(*lite_flags, f"--model_base_path={version.parent}", "--verbose") as server:
        assert "m version 1: 10 warmup requests" in server.log.read_text()
