"""The access log of a live server, and its own log: whoever reads them, or nobody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from serving.apis import services
from tests.support.asking import call, outputs, predict_request
from tests.support.live import KITCHEN, free_port, wait_until

X = np.array([1.0], np.float32)


def test_the_access_log(tmp_path: Path) -> None:
    """One line of JSON for each request, on stdout; tensor_content when asked for; what cannot work is told."""
    command = [
        sys.executable, "-m", "serving.embedded", "--port=0", "--rest_api_port=0", "--model_name=kitchen",
        f"--model_base_path={KITCHEN}", "--access_log", "--enable_serialization_as_tensor_content",
        "--prefer_tflite_model", "--mixed_precision=bfloat16", "--flush_filesystem_caches=false",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        notices = [process.stderr.readline() for _ in range(5)]
        assert "kitchen/2 is served by tensorflow: the version has no model.tflite" in notices.pop(1)
        assert "Successfully loaded servable version {name: kitchen version: 2}" in notices.pop(1)
        assert notices.pop(0) == "--mixed_precision is ignored: the graph runs in the precision it was exported in\n"
        grpc_at, rest_at = (re.search(r"[\d.]+:\d+", line) for line in notices)
        assert grpc_at
        assert rest_at
        with grpc.insecure_channel(grpc_at[0]) as channel:
            answer = call(
                channel, services.PREDICT, predict_request("kitchen", {"x": X}), metadata=(("x-request-id", "a"),)
            )
            assert answer.outputs["y"].tensor_content == np.array([3.5], "<f4").tobytes()
            assert outputs(answer)["y"].tolist() == [3.5]
        httpx.get(f"http://{rest_at[0]}/v1/models/nope", headers={"x-request-id": "b"})
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait(30) == 0
    first, second = lines
    assert first.keys() == {
        "time", "request_id", "trace_id", "protocol", "path", "model", "code", "duration_ms", "peer",
    }  # fmt: skip
    assert [first[key] for key in ("request_id", "protocol", "path", "model", "code")] == [
        "a", "GRPC", "/tensorflow.serving.PredictionService/Predict", "kitchen", "OK",
    ]  # fmt: skip
    assert [second[key] for key in ("request_id", "protocol", "path", "model", "code")] == [
        "b", "REST", "/v1/models/nope", "nope", "NOT_FOUND",
    ]  # fmt: skip


@pytest.mark.parametrize("stdout", ["full disk", "unread pipe"])
def test_a_log_that_cannot_be_written(lite_flags: Sequence[str], stdout: str) -> None:
    """Every call is answered, quickly, and the server ends in its time; nobody reads its stderr either."""
    port = free_port()
    command = [
        sys.executable, "-m", "serving.embedded", "--port=-1", f"--rest_api_port={port}", "--verbose", "--access_log",
        *lite_flags,
    ]  # fmt: skip
    reading, writing = os.pipe()
    fill(writing)
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(command, stdout=full if stdout == "full disk" else writing, stderr=writing) as process,
        contextlib.ExitStack() as ending,
    ):
        ending.callback(process.kill)
        url = f"http://127.0.0.1:{port}/v1/models/m"
        wait_until(lambda: is_served(url))
        begin = time.monotonic()
        with httpx.Client() as client:
            # More than a pipe holds.
            assert all(client.get(f"{url}?{'x' * 1024}{n}").status_code == 404 for n in range(200))
            assert client.post(f"{url}:predict", json={"instances": [1]}).status_code == 200
        assert time.monotonic() - begin < 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    os.close(reading)
    os.close(writing)


def fill(pipe: int) -> None:
    """Leaves no room in a pipe."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)


def is_served(url: str) -> bool:
    """Whether a server answers there."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False
