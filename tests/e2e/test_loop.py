"""The next version, without fear: what was asked of one version decides about the next, on every backend.

With --loop-results the commands and what they printed, on the embedded server, go into docs/operations.md.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest

from client import connect
from client.errors import ServerError
from client.types import ModelSpec
from fashion_common.labels import read_labels
from fashion_common.prometheus import samples
from serving.launch.backends import MODEL_SERVER
from tests.support.broken import write_broken_version
from tests.support.console import fashion
from tests.support.containers import BuiltImage
from tests.support.live import wait_until
from tests.support.live_backend import LiveBackend
from tests.support.road import Road
from tests.support.stable_load import load

EMBEDDED, ON_LITERT = "embedded", "embedded on LiteRT"
RESULTS = Path(__file__).parents[2] / "benchmarks/results/loop.json"
# Medians and means of a machine on which other tests run.
RATIO = ("--max-latency-ratio", "3")


@pytest.fixture(scope="session")
def second_run(road: Road) -> Path:
    """Another model of the same recipe."""
    done = fashion("train", "--dataset", "synthetic", "--run-dir", "runs/two", "--seed", 2, cwd=road.directory)
    assert done.returncode == 0, done.stderr
    return road.directory / "runs/two"


class Loop:
    """A server of version 1, the commands of whoever looks after it, and what they printed."""

    def __init__(self, server: LiveBackend) -> None:
        self.server = server
        self.transcript: list[dict[str, str]] = []

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command, which must end with this exit code."""
        done = self.server.call(*arguments)
        assert done.returncode == code, done.stdout
        # As on the ports by default.
        ports = {url.rpartition(":")[2]: str(8500 + (api == "rest")) for api, url in self.server.servers.items()}
        output = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda match: ports.get(match[0], match[0]), done.stdout)
        self.transcript.append({"command": shlex.join(["fashion", *arguments]), "output": output})
        return output

    def version(self, label: str) -> int | None:
        """The version that answers for a label."""
        try:
            with connect(self.server.servers["grpc"], model=ModelSpec(version_label=label)) as connection:
                return connection.metadata().version
        except ServerError:
            return None

    def wait_for_canary(self, version: int) -> None:
        """Returns when it answers."""
        wait_until(lambda: self.version("canary") == version)


@pytest.fixture(params=[EMBEDDED, ON_LITERT, "binary", "container"])
def loop(request: pytest.FixtureRequest, road: Road, tmp_path: Path) -> Iterator[Loop]:
    """On each backend that is here; the embedded server records what it is asked."""
    backend: str = request.param
    chosen = request.config.getoption("server_backend")
    if request.config.getoption("server_address"):
        pytest.skip("--server-address: that server is not ours to change")
    if chosen and backend.partition(" ")[0] not in chosen:
        pytest.skip(f"--server-backend names {', '.join(chosen)}")
    flags = ["--", "--model_config_file_poll_wait_seconds=1"]
    engine = ""
    if backend == "container":
        engine = request.getfixturevalue("engine")
        image: BuiltImage = request.getfixturevalue("serving_image")
        flags = ["--engine", engine, "--image", image.name, *flags]
    elif backend == "binary":
        if shutil.which(MODEL_SERVER) is None:
            pytest.skip(f"{MODEL_SERVER} is not on the PATH")
    else:
        flags += ["--record_filename_prefix=recordings/requests", "--record_sampling_rate=0.2"]
        flags += ["--shadow_label=canary", "--shadow_rate=0.05"]
        if backend == ON_LITERT:
            flags += ["--runtime=litert"]
    shutil.copytree(road.directory / "models", tmp_path / "models")
    server = LiveBackend(backend.partition(" ")[0], {}, tmp_path, tuple(flags), engine)
    server.start()
    try:
        yield Loop(server)
    finally:
        code, _ = server.stop()
    assert code == 0, server.log.read_text()


def classes(keras_model: Path, images: np.ndarray) -> list[int]:
    """What a model takes the images for."""
    found = keras.models.load_model(keras_model)(images.astype(np.float32) / 255).numpy().argmax(axis=1)
    return [int(class_id) for class_id in found]


def shadowed(loop: Loop, outcome: str) -> float:
    """How many rows the shadow has compared that ended so."""
    text = httpx.get(f"{loop.server.servers['rest']}/monitoring/prometheus/metrics", timeout=30).text
    named = samples(text, ":fashion:shadow:row_count")
    return sum(value for labels, value in named if labels["outcome"] == outcome)


def publish_broken(loop: Loop, kind: str, run: Path, version: int) -> None:
    """Puts a broken version beside the others, past the export, and waits until it is `canary`."""
    aside = loop.server.models / f".{version}"
    write_broken_version(kind, run / "model.keras", aside)
    aside.rename(loop.server.models / str(version))
    loop.wait_for_canary(version)


def test_the_loop(
    loop: Loop, road: Road, second_run: Path, images: np.ndarray, pictures: dict[Path, np.ndarray],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Record, train, hold the export to it, shadow, compare, promote under load; refuse what is broken, roll back."""
    both = (classes(run / "model.keras", images) for run in (road.run, second_run))
    answers = [set(pair) for pair in zip(*both, strict=True)]
    directory = loop.server.models.parents[1]
    with load(loop.server.servers["grpc"], images, answers) as seen:
        if loop.server.backend != "embedded":
            files = [str(path) for path in pictures]
            server = loop.server.servers["grpc"]
            loop.run("predict", "--server", server, "--record", "recordings/client.tfrecord", *files)
        # What comparisons ask is recorded too.
        shutil.copytree(directory / "recordings", directory / "day")
        shutil.copytree(second_run, directory / "runs/two")
        loop.run("export", "runs/two", "--replay", "day", "--min-agreement", "0.5")
        loop.wait_for_canary(2)
        if loop.server.backend == "embedded":
            wait_until(lambda: shadowed(loop, "agreed") > 0)
        loop.run("promote", "--evidence", "day", "--min-agreement", "0.5", "--watch", "3", *RATIO)
        assert loop.version("stable") == 2

        refusals = {"permuted": "agreement 0", "NaN": "are not numbers (NaN or infinite)", "slow": "latency is "}
        for version, (kind, refusal) in enumerate(refusals.items(), start=3):
            publish_broken(loop, kind, second_run, version)
            printed = loop.run("promote", "--evidence", "day", *RATIO, code=1)
            assert re.search(rf"^Error: Not promoted: .*{re.escape(refusal)}", printed, re.MULTILINE), printed
            assert loop.version("stable") == 2
            if loop.server.backend == "embedded" and kind == "permuted":
                assert shadowed(loop, "disagreed") > 0
        printed = loop.run("promote", "--evidence", "day", "--force", "--watch", "60", *RATIO, code=1)
        assert re.search(r"^Error: Rolled back to 2: requests to \S+ take ", printed, re.MULTILINE), printed
        assert loop.version("stable") == 2
        loop.run("rollback", "--reason", "the first one after all")
        assert loop.version("stable") == 1
    assert (seen.failed, seen.wrong) == ([], [])
    actions = [move.action for move in read_labels(loop.server.models).history]
    assert actions == ["serve", "promote", "promote", "rollback", "rollback"]
    if request.config.getoption("loop_results") and request.node.callspec.params["loop"] == EMBEDDED:
        RESULTS.write_text(json.dumps({"steps": loop.transcript}, indent=2) + "\n")
