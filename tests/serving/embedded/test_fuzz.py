"""Bad input never kills the server: random JSON, random protobuf bytes and random HTTP/2 frames at a live one."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apis import services
from serving.apis.messages import DT_FLOAT, PredictRequest
from tests.support.asking import METHODS, predict
from tests.support.fuzzing import ROUND, run_rounds
from tests.support.http2_peer import PREFACE, frame, window_update
from tests.support.http2_peer import call as call_frames
from tests.support.http2_peer import settings as settings_frame
from tests.support.live import Server

FUZZED = [method for method in METHODS if method is not services.HANDLE_RELOAD_CONFIG_REQUEST]
# What a client may be answered when its request is wrong.
BLAMED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8) | st.just("b64"), inner, max_size=4)
    ),
    max_leaves=20,
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"]), values, min_size=1
    ).map(lambda value: json.dumps(value).encode()),
)
MODELS = (
    "half_plus_two", "many_types", "tf1", "assets", "tf1/versions/123", "tf1/labels/%C3%28", "x", "%00",
    "strings", "named", "two", "old",
)  # fmt: skip
paths = st.builds(
    "/v1/models/{}:{}".format, st.sampled_from(MODELS), st.sampled_from(["predict", "classify", "regress"])
)


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def server(request: pytest.FixtureRequest) -> Server:
    """The toy models on each runtime."""
    models: Server = request.getfixturevalue("toy_server" if request.param == "tensorflow" else "lite_toy_server")
    return models


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client that keeps its connection."""
    with httpx.Client(base_url=f"http://{server.rest}", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A connection to the server with the toy models."""
    with grpc.insecure_channel(server.grpc) as connection:
        yield connection


def test_random_json(http: httpx.Client, server: Server, channel: grpc.Channel) -> None:
    """Every answer is a 4xx with a reason, or a 200 when chance made a right request; 501 where TF Serving says so."""

    @ROUND
    @given(path=paths, body=bodies, packed=st.integers(0, 19))
    def feed(path: str, body: bytes, packed: int) -> None:
        headers = {"content-encoding": "gzip"} if packed == 1 else {}
        answer = http.post(path, content=body, headers=headers)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (path, body, answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"]

    run_rounds(feed)
    check_alive(server, channel)


def mutated(data: bytes, cuts: list[tuple[int, int]]) -> bytes:
    """A valid message with some of its bytes replaced."""
    result = bytearray(data)
    for where, value in cuts:
        result[where % len(result)] = value
    return bytes(result)


def valid_request() -> bytes:
    """A right Predict request, for spoiling."""
    request = PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].dtype = DT_FLOAT
    request.inputs["x"].tensor_shape.dim.add(size=2)
    request.inputs["x"].float_val.extend([1, 2])
    return request.SerializeToString()


VALID = valid_request()


def test_random_protobuf(channel: grpc.Channel, server: Server) -> None:
    """Every answer blames the request, or is right when chance made a right one."""
    spoiled = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=6)

    @ROUND
    @given(
        method=st.sampled_from(FUZZED), data=st.binary(max_size=200) | spoiled.map(lambda cuts: mutated(VALID, cuts))
    )
    def feed(method: services.Method, data: bytes) -> None:
        stub: Any = channel.unary_unary(method.path, None, None)
        call = stub.future(data, timeout=30)
        assert call.code() in {grpc.StatusCode.OK, *BLAMED}, (method.path, base64.b64encode(data), call.details())

    run_rounds(feed)
    check_alive(server, channel)


GREETING = PREFACE + settings_frame((4, 100))
CALL = call_frames(1, VALID, services.PREDICT.path)
frames = st.one_of(
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60)),
    st.builds(window_update, st.integers(0, 9), st.integers(0, 2**31)),
    st.builds(settings_frame, st.tuples(st.integers(0, 8), st.integers(0, 2**32 - 1))),
    st.integers(0, 9).map(lambda number: call_frames(number, VALID, services.PREDICT.path)),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=3).map(
        lambda spoiled: mutated(CALL, spoiled)
    ),
)


def test_random_frames(channel: grpc.Channel, server: Server) -> None:
    """A connection is answered or ended, whatever comes, and a good client's beside it goes on."""
    host, _, port = server.grpc.rpartition(":")

    @ROUND
    @given(
        sent=st.lists(frames, max_size=12).map(b"".join),
        greets=st.integers(0, 9).map(bool),
        beside=st.integers(0, 19).map(lambda number: number == 1),
    )
    def feed(sent: bytes, greets: bool, beside: bool) -> None:
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall((GREETING if greets else b"") + sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        if beside:
            assert predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.5]

    run_rounds(feed)
    check_alive(server, channel)
    assert "Traceback" not in server.log.read_text()


def check_alive(server: Server, channel: grpc.Channel) -> None:
    """It is the same process, and answers as ever."""
    assert server.process.poll() is None
    assert predict(channel, "half_plus_two", {"x": np.ones(1, np.float32)})["y"].tolist() == [3.5]
    assert "unforeseen" not in server.log.read_text()
