"""Versions that hang, are half there, or are not what was exported: a live server goes on serving, and ends on time."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fashion_common.layout import SELF_TEST_FILE, WARMUP_FILE
from serving.apis.messages import PredictionLog
from serving.apis.self_test import Case, write_archive
from serving.embedded.flags import Flags
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.server import Addresses, ModelServer
from serving.errors import FailedPrecondition
from tests.serving.embedded.models.test_manifest import write_manifest
from tests.support.asking import predict_request
from tests.support.live import Server, running, wait_until
from tests.support.tfrecords import write_records

X = np.array([1.0, 4.0], np.float32)


def states(server: Server) -> dict[int, str]:
    """The state of each version of m."""
    return {number: version["state"] for number, version in status(server).items()}


def status(server: Server) -> dict[int, dict[str, Any]]:
    """The status of each version of m."""
    versions = httpx.get(f"http://{server.rest}/v1/models/m").json()["model_version_status"]
    return {int(version["version"]): version for version in versions}


def in_state(server: Server, version: int, state: str) -> bool:
    """Whether a version is."""
    return states(server).get(version) == state


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path for m."""
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.fixture
def gate(toys: Path, base: Path) -> Iterator[Path]:
    """The base path with a version that serves; what hangs on the file `opened` beside it is let go at the end."""
    shutil.copytree(toys / "gate" / "1", base / "1")
    yield base
    (base.parent / "opened").touch()


def publish_hanging(toys: Path, base: Path, number: int) -> None:
    """A version whose warmup request waits for a file."""
    aside = base.parent / str(number)
    shutil.copytree(toys / "gate" / "1", aside)
    log = PredictionLog()
    log.predict_log.request.CopyFrom(
        predict_request("m", {"path": np.array([str(base.parent / "opened").encode()], object)})
    )
    write_records(aside / WARMUP_FILE, [log.SerializeToString()])
    aside.rename(base / str(number))


def test_a_load_that_hangs(toys: Path, gate: Path) -> None:
    """Its time over, later versions are loaded; SIGTERM ends the process while the next one hangs."""
    flags = ("--model_name=m", f"--model_base_path={gate}", "--file_system_poll_wait_seconds=0.05")
    with running(*flags, "--load_timeout_seconds=15", "--shutdown_grace_seconds=1") as server:
        publish_hanging(toys, gate, 2)
        wait_until(partial(in_state, server, 2, "LOADING"))
        shutil.copytree(toys / "gate" / "1", gate / "3")
        wait_until(partial(in_state, server, 3, "AVAILABLE"))
        hung = status(server)[2]
        assert (hung["state"], hung["status"]["error_code"]) == ("END", "DEADLINE_EXCEEDED")
        assert "after 15 seconds (--load_timeout_seconds)" in hung["status"]["error_message"]

        publish_hanging(toys, gate, 4)
        wait_until(partial(in_state, server, 4, "LOADING"))
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - begin < 10


def test_a_start_that_hangs_can_be_ended(toys: Path) -> None:
    """While its first load does; the process may end then, since that thread is a daemon."""
    gate, begun, stopping = threading.Event(), threading.Event(), threading.Event()

    def hang(name: str, number: int, directory: VersionDirectory) -> LoadedModel:
        begun.set()
        assert gate.wait(60)
        raise FailedPrecondition(f"{name} {number} of {directory} was not to be loaded")

    flags = Flags(port=0, model_name="m", model_base_path=str(toys / "gate"), shutdown_grace_seconds=0.5)
    server = ModelServer(flags, hang, stopping)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start)
        assert begun.wait(30)
        stopping.set()
        assert starting.result(30) == Addresses(None, None)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 10
    gate.set()


def test_versions_that_are_not_whole(toys: Path, base: Path) -> None:
    """--require_manifest serves only what is whole and has passed its self-test; what is being copied is waited for."""
    good = base.parent / "good"
    shutil.copytree(toys / "half_plus_two" / "1", good)
    write_archive(good / SELF_TEST_FILE, {"serving_default": Case({"x": X}, {"y": X / 2 + 2})})
    write_manifest(good)
    shutil.copytree(good, base / "1")
    flags = ("--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05")
    with running(*flags, "--require_manifest", "--max_num_load_retries=0") as server:
        assert states(server) == {1: "AVAILABLE"}
        spoilt = {
            2: "has no assets.extra/manifest.json, without which --require_manifest",
            3: "variables/extra is not among the files of assets.extra/manifest.json",
            4: "saved_model.pb is not the file that was exported (SHA-256 differs)",
            5: "saved_model.pb is no regular file",
        }
        for number in spoilt:
            aside = base.parent / str(number)
            shutil.copytree(good, aside)
            spoil(aside, number)
            aside.rename(base / str(number))
            wait_until(partial(in_state, server, number, "END"))
        for number, text in spoilt.items():
            error = status(server)[number]["status"]
            assert (error["error_code"], text in error["error_message"]) == ("FAILED_PRECONDITION", True)
            assert str(base) not in error["error_message"]
            assert str(base) not in httpx.get(f"http://{server.rest}/readyz").text

        slow = base / "6"
        shutil.copytree(good, slow, ignore=shutil.ignore_patterns("*.npz"))
        time.sleep(1)
        assert 6 not in states(server)
        shutil.copy(good / SELF_TEST_FILE, slow / SELF_TEST_FILE)
        wait_until(partial(in_state, server, 6, "AVAILABLE"))


def spoil(version: Path, number: int) -> None:
    """Removes the manifest, adds a file, changes one, or puts a pipe in its place."""
    graph = version / "saved_model.pb"
    if number == 2:
        shutil.rmtree(version / "assets.extra")
    elif number == 3:
        (version / "variables" / "extra").touch()
    elif number == 4:
        data = graph.read_bytes()
        graph.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        graph.unlink()
        os.mkfifo(graph)
