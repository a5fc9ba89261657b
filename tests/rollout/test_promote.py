"""`fashion promote`: what holds becomes stable, what does not is refused, what breaks is rolled back."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from fashion_common.evidence import Evidence, Latency, Side
from fashion_common.labels import read_labels
from rollout.errors import RolloutUsageError
from rollout.evidence import given_evidence
from serving.apis.messages import ModelServerConfig
from tests.support.console import FASHION
from tests.support.detached import DetachedServer, detached_server
from tests.support.live import wait_until
from tests.support.stable_load import load

GOOD, PERMUTED, NAN, SLOW = 1, 2, 3, 0
# What is right for each of the images.
CLASSES = [{class_id} for class_id in (*range(10), *range(10))]
# No number is given twice.
VERSIONS = itertools.count(2)


@pytest.fixture(scope="module")
def live(classifiers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetachedServer]:
    """A server whose version 1, `stable`, answers rightly; `classifiers` has other versions to come."""
    directory = tmp_path_factory.mktemp("live")
    shutil.copytree(classifiers / str(GOOD), directory / "fashion_mnist/1")
    with detached_server(directory / "fashion_mnist", directory / "state") as server:
        yield server


@pytest.fixture
def candidate(live: DetachedServer, classifiers: Path) -> Iterator[Callable[[int], int]]:
    """Makes one of `classifiers` the next version, and waits until it is `canary`; it is gone with the test."""
    made: list[Path] = []

    def make(kind: int) -> int:
        version = next(VERSIONS)
        shutil.copytree(classifiers / str(kind), live.base / f".{version}")
        made.append((live.base / f".{version}").rename(live.base / str(version)))
        wait_until(lambda: live.version("canary") == version)
        return version

    yield make
    if read_labels(live.base).moved["stable"] != 1:
        done = live.fashion("label", "stable=1")
        assert done.returncode == 0, done.stderr
    for path in made:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each class."""
    pixels = np.zeros((20, 28, 28), np.uint8)
    pixels[:, 0, 0] = [*range(10), *range(10)]
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, pixels)
    return path


def evidence_file(directory: Path, stable: int, version: int, ratio: float = 1.0) -> Path:
    """What a comparison of ten images prints that all agree. ratio: of the latencies."""
    latency = Latency(1, 1.0, 1.0, 100, ratio, ratio, 100, ratio)
    sides = Side(str(stable), version=stable), Side(str(version), version=version)
    evidence = Evidence(
        "fashion_mnist", "2026-01-02T03:04:05+00:00", *sides, ("a",), "0", 10, 10, 0.0, 0.0, None, (latency,)
    )
    path = directory / "evidence.json"
    path.write_text(json.dumps(evidence.to_json()))
    return path


def models_config(directory: Path) -> Path:
    """One that somebody else's server reads, without labels."""
    path = directory / "models.config"
    path.write_text('model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }')
    return path


def stable_in(path: Path) -> int:
    """The version that `stable` names there."""
    [config] = text_format.Parse(path.read_text(), ModelServerConfig()).model_config_list.config
    return config.version_labels["stable"]


def test_a_version_that_holds_is_promoted_under_load(
    live: DetachedServer, images: Path, tmp_path: Path, candidate: Callable[[int], int]
) -> None:
    """No request fails, no answer is wrong; the history has the evidence, and a models.config the label."""
    version = candidate(GOOD)
    config = models_config(tmp_path)
    with load(f"grpc://{live.address}", np.load(images), CLASSES) as seen:
        done = live.fashion(
            "promote", "--evidence", images, "--watch", 2, "--max-latency-ratio", 100, "--models-config", config
        )
        asked = seen.answered
        assert live.version("stable") == version
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"stable went from 1 to {version}"
    assert f"{live.url} answers by it\n{config} has the labels: " in done.stderr
    assert f"\nWatching for 2 s; Ctrl-C ends the watch, and stable stays {version}\n" in done.stderr
    assert " requests, 0.0% failed, " in done.stderr
    assert (seen.failed, seen.wrong) == ([], [])
    assert asked > 100
    assert stable_in(config) == version
    move = read_labels(live.base).history[-1]
    assert (move.label, move.before, move.after, move.action) == ("stable", 1, version, "promote")
    assert move.evidence is not None
    assert (move.evidence["agreement"], move.evidence["compared"]) == (1.0, 20)
    assert "examples" not in move.evidence


@pytest.mark.parametrize(
    ("kind", "objection"),
    [
        (PERMUTED, "agreement 0.7000 (95 % interval 0.4810 to 0.8545, 20 inputs) is below 0.9"),
        (NAN, "2 answers of {version} are not numbers (NaN or infinite)"),
        (SLOW, "latency is "),
    ],
    ids=["permuted", "NaN", "slow"],
)
def test_what_does_not_hold_is_refused(
    live: DetachedServer, images: Path, candidate: Callable[[int], int], kind: int, objection: str
) -> None:
    """With the figures; no label moves."""
    version = candidate(kind)
    before = read_labels(live.base)
    done = live.fashion("promote", "canary", "--evidence", images)
    assert done.returncode == 1
    assert objection.format(version=version) in done.stderr.splitlines()[-1]
    assert done.stderr.startswith("Error: Not promoted: ")
    assert done.stderr.endswith(" (--force promotes it all the same)\n")
    assert read_labels(live.base) == before
    assert live.version("stable") == 1


def test_a_forced_version_that_breaks_is_rolled_back(
    live: DetachedServer, images: Path, tmp_path: Path, candidate: Callable[[int], int]
) -> None:
    """The watch sees that requests take longer than before; a models.config goes back too."""
    version = candidate(SLOW)
    config = models_config(tmp_path)
    evidence = evidence_file(tmp_path, 1, version, ratio=30.0)
    with load(f"grpc://{live.address}", np.load(images), CLASSES) as seen:
        done = live.fashion(
            "promote", version, "--evidence", evidence, "--force", "--watch", 60, "--json", "--models-config", config
        )
    assert stable_in(config) == 1
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: Rolled back to 1: requests to {live.url} take ")
    assert (result["promoted"], result["rolled_back"], result["forced"]) == (False, True, True)
    assert result["watch"]["requests"] >= 20
    assert live.version("stable") == 1
    promotion, rollback = read_labels(live.base).history[-2:]
    assert promotion.reason == (
        "forced: latency is 30.00 times the baseline's with 1 in flight (p50 30.00 and 1.00 ms), more than 1.5"
    )
    assert (rollback.action, rollback.after) == ("rollback", 1)
    assert rollback.reason == result["watch"]["fault"]
    assert (seen.failed, seen.wrong) == ([], [])


def test_a_dry_run_moves_nothing(live: DetachedServer, tmp_path: Path, candidate: Callable[[int], int]) -> None:
    """It says what would happen, and fails as a promotion would."""
    version = candidate(GOOD)
    before = read_labels(live.base)
    done = live.fashion("promote", "--evidence", evidence_file(tmp_path, 1, version), "--dry-run")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"stable would go from 1 to {version}"), done.stderr
    done = live.fashion("promote", "--evidence", evidence_file(tmp_path, 1, version, ratio=2.0), "--dry-run", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["from"], result["to"], result["promoted"], len(result["objections"])) == (1, version, False, 1)
    done = live.fashion("promote", "--evidence", evidence_file(tmp_path, 2, version), "--dry-run")
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"evidence.json compares version {version} with 2, not {version} with 1, which is stable: compare these\n"
    )
    assert read_labels(live.base) == before


def test_a_version_that_just_came_is_waited_for(live: DetachedServer, tmp_path: Path, classifiers: Path) -> None:
    """As after an export; one that no label names, and that is not the newest, is not loaded, and the text says so."""
    version, newest = next(VERSIONS), next(VERSIONS)
    # The newest first: the other one is never the newest of those that are there.
    for number in (newest, version):
        shutil.copytree(classifiers / str(GOOD), live.base / f".{number}")
        (live.base / f".{number}").rename(live.base / str(number))
    try:
        done = live.fashion("promote", "--evidence", evidence_file(tmp_path, 1, newest), "--dry-run")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"stable would go from 1 to {newest}"), (
            done.stderr
        )
        done = live.fashion("promote", version, "--evidence", evidence_file(tmp_path, 1, version), "--wait", "0")
        assert done.returncode == 1
        assert done.stderr == (
            f"Error: {live.url} has not loaded version {version} in 0 s (--wait takes more): "
            f"a label asks for it, `fashion label NAME={version}`\n"
        )
    finally:
        for number in (version, newest):
            shutil.rmtree(live.base / str(number))


def test_ctrl_c_ends_the_watch_and_the_version_stays(
    live: DetachedServer, tmp_path: Path, candidate: Callable[[int], int]
) -> None:
    """It was promoted before."""
    version = candidate(GOOD)
    command = [FASHION, "promote", "--evidence", evidence_file(tmp_path, 1, version), "--watch", 1000]
    words = list(map(str, [*command, "--model-base-path", live.base]))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Watching for" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stderr == f"The watch ended early: stable stays {version}\n"
    assert stdout.splitlines()[-1] == f"stable went from 1 to {version}"
    assert live.version("stable") == version


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["1"], 0, "stable is 1 already\n"),
        (["blue"], 2, "blue is no label: there are canary, stable, or name a version\n"),
        (["99"], 2, "version 99 is not there, only 1\n"),
    ],
)
def test_a_candidate_that_is_none(live: DetachedServer, arguments: list[str], code: int, text: str) -> None:
    """Nothing is compared."""
    done = live.fashion("promote", *arguments)
    assert done.returncode == code
    assert (done.stderr or done.stdout).endswith(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is no JSON: give what `fashion compare --json` printed"),
    ],
)
def test_evidence_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    """Is told before anything is asked."""
    file = tmp_path / "evidence.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RolloutUsageError, match=rf"evidence\.json {message}$"):
        given_evidence(file, 1, 2)
