"""Flags that are seen in what a live server answers: batching of single models, method names, the session, times."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from tests.support.asking import predict
from tests.support.live import KITCHEN, Server, running

X = np.array([1.0], np.float32)
OWN_METHOD = (
    "Expected prediction signature method_name to be one of {tensorflow/serving/predict, tensorflow/serving/classify, "
    "tensorflow/serving/regress}. Was: toys/own"
)


@pytest.fixture(scope="module")
def server(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with models that have batching parameters of their own, good and bad, and two that have none."""
    directory = tmp_path_factory.mktemp("flags")
    batched = directory / "batched"
    shutil.copytree(toys / "half_plus_two" / "1", batched / "1")
    (batched / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 4 } allowed_batch_sizes: 4")
    spoilt = directory / "spoilt"
    shutil.copytree(toys / "half_plus_two" / "1", spoilt / "1")
    (spoilt / "1" / "batching_params.pbtxt").write_text("nope: 1")
    paths = {"batched": batched, "spoilt": spoilt, "plain": toys / "half_plus_two", "tf1": toys / "tf1"}
    models = "".join(
        f"config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' }}\n"
        for name, path in paths.items()
    )
    config, monitoring, common = (
        directory / name for name in ("models.config", "monitoring.config", "batching.config")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    monitoring.write_text("prometheus_config { enable: true }")
    common.write_text("max_batch_size { value: 2 }")
    with running(
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        "--enable_batching",
        f"--batching_parameters_file={common}",
        "--enable_per_model_batching_parameters",
        "--enable_signature_method_name_check",
        "--enable_profiler=false",
        "--max_num_load_retries=0",
        "--rest_api_timeout_in_ms=0",
        "--model_config_file_poll_wait_seconds=-1",
    ) as live:
        yield live


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A connection to that server."""
    with grpc.insecure_channel(server.grpc) as connection:
        yield connection


def test_per_model_batching(channel: grpc.Channel, server: Server) -> None:
    """A version with parameters of its own is batched by them; one without is not, whatever the common ones say."""
    five = np.ones(5, np.float32)

    assert predict(channel, "batched", {"x": X})["y"].tolist() == [2.5]
    with pytest.raises(grpc.RpcError) as raised:
        predict(channel, "batched", {"x": five})
    assert predict(channel, "plain", {"x": five})["y"].tolist() == [3.5] * 5

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "Task size 5 is larger than maximum input batch size 4"
    text = httpx.get(f"http://{server.rest}/monitoring/prometheus/metrics").text
    assert re.findall(r'processed_batch_size_(sum|count)\{model_name="(\w+)"\} (\S+)', text) == [
        ("count", "batched", "1.0"),
        ("sum", "batched", "4.0"),
    ]


def test_per_model_batching_parameters_that_do_not_parse(server: Server) -> None:
    """The version is not loaded, and its status has TF Serving's words."""
    (status,) = httpx.get(f"http://{server.rest}/v1/models/spoilt").json()["model_version_status"]

    assert (status["state"], status["status"]["error_code"]) == ("END", "INVALID_ARGUMENT")
    assert status["status"]["error_message"].startswith(
        "Error parsing text-format tensorflow.serving.BatchingParameters: 1:1: "
    )


def test_method_names_are_checked(channel: grpc.Channel, server: Server) -> None:
    """With --enable_signature_method_name_check a method that TF Serving does not know is refused, over both APIs."""
    with pytest.raises(grpc.RpcError) as raised:
        predict(channel, "tf1", {"x": X}, signature_name="own_method")
    answer = httpx.post(
        f"http://{server.rest}/v1/models/tf1:predict", json={"signature_name": "own_method", "instances": [1.0]}
    )

    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, OWN_METHOD)
    assert (answer.status_code, answer.json()) == (500, {"error": OWN_METHOD})
    assert predict(channel, "tf1", {"x": X})["y"].tolist() == [2.5]


def test_no_timeout_of_rest(server: Server) -> None:
    """With --rest_api_timeout_in_ms=0 a request waits for its model."""
    answer = httpx.post(f"http://{server.rest}/v1/models/tf1:predict", json={"instances": [1.0]})

    assert (answer.status_code, answer.json()) == (200, {"predictions": [2.5]})


def test_method_names_are_not_checked_unless_asked(toy_server: Server) -> None:
    """Then such a signature is served as any other."""
    with grpc.insecure_channel(toy_server.grpc) as channel:
        assert predict(channel, "tf1", {"x": X}, signature_name="own_method")["y"].tolist() == [2.5]


def test_the_session_config_file(tmp_path: Path) -> None:
    """It is what TensorFlow makes sessions with: one that it does not take fails the load."""
    file = tmp_path / "session.config"
    file.write_text("experimental { session_metadata { name: 'm' version: -1 } }")
    flags = ("--model_name=kitchen", f"--model_base_path={KITCHEN}", "--max_num_load_retries=0")

    with running(*flags, f"--tensorflow_session_config_file={file}") as server:
        (status,) = httpx.get(f"http://{server.rest}/v1/models/kitchen").json()["model_version_status"]

    assert (status["state"], status["status"]["error_code"]) == ("END", "INVALID_ARGUMENT")
    assert status["status"]["error_message"].startswith("Session version shouldn't be negative")


def test_the_profiler_switched_off(channel: grpc.Channel) -> None:
    """Its methods are not there."""
    profile: Any = channel.unary_unary("/tensorflow.ProfilerService/Profile")
    with pytest.raises(grpc.RpcError, match=r"Method not found: /tensorflow\.ProfilerService/Profile"):
        profile(b"", timeout=30)
