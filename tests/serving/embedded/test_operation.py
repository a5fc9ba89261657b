"""Health, reflection, metrics, limits, deadlines, sockets: what an operator meets."""

from __future__ import annotations

import gzip
import json
import math
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.apis import services
from serving.apis.messages import GetModelStatusRequest, ModelSpec, PredictRequest
from tests.support.asking import call, predict, predict_request
from tests.support.live import Server, wait_until


@pytest.fixture(scope="module")
def channel(toy_server: Server) -> Iterator[grpc.Channel]:
    """A connection to the server with the toy models."""
    with grpc.insecure_channel(toy_server.grpc) as connection:
        yield connection


def test_the_health_service(channel: grpc.Channel) -> None:
    """SERVING for the server and both services; an unknown service is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(channel)

    for name in ("", services.PREDICTION_SERVICE, services.MODEL_SERVICE):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection(channel: grpc.Channel) -> None:
    """Both services are listed, and their messages can be had."""
    database = ProtoReflectionDescriptorDatabase(channel)

    assert {services.PREDICTION_SERVICE, services.MODEL_SERVICE} <= set(database.get_services())
    file = database.FindFileContainingSymbol("tensorflow.serving.PredictRequest")
    assert "PredictRequest" in [message.name for message in file.message_type]


def test_probes(toy_server: Server) -> None:
    """/healthz and /readyz answer 200 while everything is served."""
    assert httpx.get(f"http://{toy_server.rest}/healthz").status_code == 200
    ready = httpx.get(f"http://{toy_server.rest}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "errors": {}})


def counts(server: Server) -> dict[str, float]:
    """The value of each series about half_plus_two."""
    text = httpx.get(f"http://{server.rest}/monitoring/prometheus/metrics").text
    lines = (line.removeprefix(":tensorflow:serving:").rpartition(" ") for line in text.splitlines())
    return {name: float(value) for name, _, value in lines if 'model_name="half_plus_two"' in name}


def test_the_metrics(channel: grpc.Channel, toy_server: Server) -> None:
    """TF Serving's names, labels and buckets; names that clients make up do not become metrics."""
    url = f"http://{toy_server.rest}/v1/models"
    predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})
    httpx.post(f"{url}/half_plus_two:predict", content=b"{}")
    before = counts(toy_server)

    begin = time.perf_counter()
    for _ in range(3):
        predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})
    httpx.post(f"{url}/half_plus_two:predict", content=b"{}")
    httpx.post(f"{url}/half_plus_two:predict", json={"instances": [1.0]})
    httpx.post(f"{url}/made_up:predict", content=b"{}")
    microseconds = (time.perf_counter() - begin) * 1e6

    changes = {name: value - before.get(name, 0) for name, value in counts(toy_server).items()}
    added = {name: value for name, value in changes.items() if value}
    grpc_labels = 'API="Predict",entrypoint="GRPC",model_name="half_plus_two"'
    rest_labels = grpc_labels.replace("GRPC", "REST")
    runtime_labels = 'API="Predict",model_name="half_plus_two",runtime="TF1"'
    assert {name: value for name, value in added.items() if "_bucket" not in name and "_sum" not in name} == {
        'request_count{model_name="half_plus_two",status="OK"}': 4,
        'request_count{model_name="half_plus_two",status="INVALID_ARGUMENT"}': 1,
        f"request_latency_count{{{grpc_labels}}}": 3,
        f"request_latency_count{{{rest_labels}}}": 2,
        f"runtime_latency_count{{{runtime_labels}}}": 4,
    }
    # In microseconds: no request takes less than ten, and all together no longer than they took here.
    requests = added[f"request_latency_sum{{{grpc_labels}}}"] + added[f"request_latency_sum{{{rest_labels}}}"]
    assert 50 < requests < microseconds
    assert 4 < added[f"runtime_latency_sum{{{runtime_labels}}}"] < requests

    answer = httpx.get(f"http://{toy_server.rest}/monitoring/prometheus/metrics")
    assert answer.headers["content-type"] == "text/plain"
    assert "# TYPE :tensorflow:serving:request_count counter\n" in answer.text
    edges = re.findall(
        r'request_latency_bucket\{API="Predict",entrypoint="GRPC",le="([^"]+)",model_name="half_plus_two"', answer.text
    )
    assert list(map(float, edges)) == [*(10 * 1.8**power for power in range(33)), math.inf]
    assert "made_up" not in answer.text


def test_the_unix_socket(toy_server: Server) -> None:
    """It answers as the port does."""
    path = re.search(r"--grpc_socket_path=(\S+)", " ".join(toy_server.process.args))  # type: ignore[arg-type]
    assert path
    with grpc.insecure_channel(f"unix:{path[1]}") as channel:
        assert predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.5]


def test_cors(toy_server: Server) -> None:
    """The flag's headers are on every answer."""
    answer = httpx.get(f"http://{toy_server.rest}/v1/models/half_plus_two")

    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST, GET"
    assert answer.headers["access-control-allow-headers"] == "Content-Type"


def test_request_ids(channel: grpc.Channel, toy_server: Server) -> None:
    """The client's own comes back; REST gives one to those that have none."""
    url = f"http://{toy_server.rest}/v1/models/half_plus_two"

    assert httpx.get(url, headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    first, second = (httpx.get(url).headers["x-request-id"] for _ in range(2))
    assert first != second
    stub: Any = channel.unary_unary(services.GET_MODEL_STATUS.path, GetModelStatusRequest.SerializeToString)
    _, unary = stub.with_call(
        GetModelStatusRequest(model_spec=ModelSpec(name="tf1")), metadata=(("x-request-id", "mine"),), timeout=10
    )
    assert ("x-request-id", "mine") in [tuple(pair) for pair in unary.trailing_metadata()]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b'{"instances": [' + b"1," * 1_000_000 + b"1]}", {}, 429, "The request body is larger than 2000000 bytes"),
        (
            gzip.compress(b" " * (100 * 2**20 + 1)),
            {"Content-Encoding": "gzip"},
            429,
            "bytes when unpacked, more than 256 times",
        ),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400, "Failed to gunzip the request body"),
        (b'{"instances": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}", {}, 400, "nested deeper than 64 levels"),
        (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", {}, 400, "JSON Parse error"),
        (b'{"instances": [NaN, ' + b"[" * 90000 + b"]" * 90000 + b"]}", {}, 400, "JSON Parse error"),
        (json.dumps({"instances": [1.0] * 5001}).encode(), {}, 400, "5001 rows: the limit is --max_request_rows=5000"),
        (json.dumps({"inputs": [[0] * 251] * 1000}).encode(), {}, 400, "the limit is --max_tensor_bytes=1000000"),
    ],
    ids=["body", "unpacked body", "no gzip", "rank", "depth", "depth with NaN", "rows", "tensor"],
)
def test_limits_over_rest(toy_server: Server, body: bytes, headers: dict[str, str], status: int, message: str) -> None:
    """A clear answer for each."""
    answer = httpx.post(f"http://{toy_server.rest}/v1/models/half_plus_two:predict", content=body, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert message in answer.json()["error"]


def test_as_many_rows_as_there_may_be(channel: grpc.Channel, toy_server: Server) -> None:
    """--max_request_rows=5000 of them are answered, over both APIs."""
    rows = np.arange(5000, dtype=np.float32)
    answer = httpx.post(f"http://{toy_server.rest}/v1/models/row_mixer:predict", json={"instances": rows.tolist()})
    expected = rows - rows.mean()
    np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-5)
    np.testing.assert_allclose(predict(channel, "row_mixer", {"x": rows})["y"], expected, rtol=1e-5)


def test_limits_over_grpc(channel: grpc.Channel) -> None:
    """A small message may not ask for a huge tensor."""
    request = PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=250_001)
    request.inputs["x"].float_val.append(1)

    with pytest.raises(grpc.RpcError) as raised:
        call(channel, services.PREDICT, request)

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "tensor parsing error: x"


def test_deadlines(channel: grpc.Channel, toy_server: Server, tmp_path: Path) -> None:
    """A model that takes too long is answered DEADLINE_EXCEEDED, and holds up no others; its run goes on to its end."""
    opened = tmp_path / "opened"
    endless = predict_request("gate", {"path": np.array([str(opened)], object)})
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=f"http://{toy_server.rest}") as http:

        def has_run() -> bool:
            text = http.get("/monitoring/prometheus/metrics").text
            return 'runtime_latency_count{API="Predict",model_name="gate"' in text

        try:
            waiting = pool.submit(call, channel, services.PREDICT, endless, timeout=3)
            for _ in range(20):
                assert predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.5]
            with pytest.raises(grpc.RpcError) as raised:
                waiting.result(30)
            assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.5]
            assert not has_run()
        finally:
            opened.touch()
        wait_until(has_run)


@pytest.mark.parametrize(
    "method", [services.CLASSIFY, services.REGRESS, services.MULTI_INFERENCE], ids=lambda method: method.name
)
def test_examples_are_held_to_the_limit_of_rows(channel: grpc.Channel, method: services.Method) -> None:
    """--max_request_rows counts for examples as it does for Predict's inputs."""
    request: Any = method.request_class()
    spec = ModelSpec(name="tf1", signature_name="classify_x_to_y")
    if method is services.MULTI_INFERENCE:
        request.tasks.add(model_spec=spec, method_name="tensorflow/serving/classify")
    else:
        spec.signature_name = "classify_x_to_y" if method is services.CLASSIFY else "regress_x_to_y"
        request.model_spec.CopyFrom(spec)
    for _ in range(5001):
        request.input.example_list.examples.add()

    with pytest.raises(grpc.RpcError) as raised:
        call(channel, method, request)

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "Input inputs has 5001 rows: the limit is --max_request_rows=5000"
