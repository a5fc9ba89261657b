"""A promotion step by step: what is asked for, what is printed, what is written down, and what is watched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from fashion_common.evidence import Accuracy, Evidence, Latency, Side
from fashion_common.labels import labels_writer, read_labels
from rollout import watch as watch_module
from rollout.errors import RolloutUsageError
from rollout.evidence import given_evidence
from tests.support.simulated_servers import PlannedClock, SimulatedServer, simulated_server

METRICS = """
:tensorflow:serving:request_count{{model_name="m",status="OK"}} {ok}
:tensorflow:serving:request_count{{model_name="m",status="INTERNAL"}} {failed}
:tensorflow:serving:request_latency_sum{{model_name="m"}} {microseconds}
:tensorflow:serving:request_latency_count{{model_name="m"}} {ok}
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model base path with the versions 1 to 3, of which 2 is stable; no server runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for version in (1, 2, 3):
        (tmp_path / "models/fashion_mnist" / str(version)).mkdir(parents=True)
    return tmp_path / "models/fashion_mnist"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> PlannedClock:
    """The one that is waited by."""
    clock = PlannedClock()
    monkeypatch.setattr("rollout.move.time", clock)
    monkeypatch.setattr("rollout.watch.time", clock)
    return clock


@pytest.fixture
def server(base: Path) -> Iterator[SimulatedServer]:
    """A server that follows the labels at once."""
    with simulated_server(base) as simulated:
        simulated.metrics = METRICS.format(ok=100, failed=0, microseconds=1e6)
        yield simulated


def evidence(
    stable: int = 2, version: int = 3, *, agreeing: int = 90, right: tuple[int, int] = (0, 0), ratio: float = 1.5
) -> Evidence:
    """Of a hundred inputs. right: of a hundred with labels, those that only one side got right."""
    accuracy = Accuracy(100, 50, *right)
    latency = Latency(1, 2.0, 3.0, 100, 2.0 * ratio, 3.0, 100, ratio)
    sides = Side(str(stable), version=stable), Side(str(version), version=version)
    time = "2026-01-02T03:04:05+00:00"
    return Evidence("fashion_mnist", time, *sides, ("a",), "0", 100, agreeing, 0.0, 0.0, accuracy, (latency,))


def promote(*arguments: object, found: Evidence | None = None, watch: float | None = 0) -> Result:
    """`fashion promote` with evidence that was made before."""
    Path("evidence.json").write_text(json.dumps((found or evidence()).to_json()))
    watched = [] if watch is None else ["--watch", watch]
    words = ["promote", *arguments, "--evidence", "evidence.json", *watched]
    return CliRunner().invoke(fashion, [*map(str, words)])


def test_a_version_that_holds_becomes_stable(base: Path) -> None:
    """What is printed of it, and what the history keeps: the figures, not the pictures."""
    done = promote("--reason", "better boots")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "stable went from 2 to 3"
    assert done.stdout.startswith("baseline      2\ncandidate     3\nagreement     0.9000 ")
    assert done.stderr == (
        "Watching for 0 s; Ctrl-C ends the watch, and stable stays 3\n0 requests, 0.0% failed, 0.00 ms on average\n"
    )
    [move] = read_labels(base).history
    kept = {name: value for name, value in evidence().to_json().items() if name != "examples"}
    assert tuple(move)[1:] == ("stable", 2, 3, "promote", "better boots", json.loads(json.dumps(kept)))
    assert "examples" in evidence().to_json()


def test_the_result_as_json(base: Path) -> None:
    """All of it, indented; what is said meanwhile is on stderr."""
    done = promote("--json", "--model-base-path", base)
    assert json.loads(done.stdout) == {
        "from": 2,
        "to": 3,
        "promoted": True,
        "rolled_back": False,
        "dry_run": False,
        "evidence": json.loads(json.dumps(evidence().to_json())),
        "objections": [],
        "forced": False,
        "watch": {"requests": 0, "errors": 0, "mean_ms": 0, "fault": ""},
    }
    assert done.stdout.startswith('{\n  "from": 2,')


def test_a_version_that_is_stable_already(base: Path) -> None:
    """Is not compared; it is said, as JSON too."""
    with labels_writer(base) as writer:
        writer.move({"stable": 3}, action="label")
    assert promote().output == "stable is 3 already\n"
    done = promote("3", "--json", "--dry-run")
    assert (done.exit_code, json.loads(done.output)) == (
        0,
        {"from": 3, "to": 3, "promoted": False, "rolled_back": False, "dry_run": True},
    )
    assert len(read_labels(base).history) == 1


@pytest.mark.parametrize(
    ("found", "objections"),
    [
        (evidence(agreeing=90, right=(1, 0), ratio=1.5), []),
        (
            evidence(agreeing=89),
            ["agreement 0.8900 (95 % interval 0.8137 to 0.9375, 100 inputs) is below 0.9"],
        ),
        (evidence(right=(2, 0)), ["accuracy 0.5000 is 0.0200 below 0.5200 (p 0.5), more than 0.01"]),
        (
            evidence(ratio=1.75),
            [
                "latency is 1.75 times the baseline's with 1 in flight (p50 3.50 and 2.00 ms), more than 1.5",
            ],
        ),
    ],
    ids=["at the limits", "agreement", "accuracy", "latency"],
)
def test_what_a_version_is_held_to_by_default(base: Path, found: Evidence, objections: list[str]) -> None:
    """The same class for 90 %, a hundredth of accuracy, half as long again; nothing moves otherwise."""
    done = promote("--json", found=found)
    result = json.loads(done.stdout)
    assert (result["objections"], result["promoted"], result["forced"]) == (objections, not objections, False)
    assert done.exit_code == (1 if objections else 0)
    assert len(read_labels(base).history) == (0 if objections else 1)
    if objections:
        assert done.stderr == f"Error: Not promoted: {objections[0]} (--force promotes it all the same)\n"


@pytest.mark.parametrize(
    "options",
    [
        ["--min-agreement", "0.89"],
        ["--max-accuracy-drop", "0.02"],
        ["--max-latency-ratio", "1.75"],
    ],
)
def test_each_limit_can_be_another(base: Path, options: list[str]) -> None:
    """Then that one does not speak against the version, and the others still do."""
    limits = {"--min-agreement": "is below 0.9", "--max-accuracy-drop": "0.01", "--max-latency-ratio": "1.5"}
    done = promote(*options, found=evidence(agreeing=89, right=(2, 0), ratio=1.75))
    assert done.exit_code == 1
    assert [name for name, text in limits.items() if f"{text};" in done.stderr or f"{text} (" in done.stderr] == [
        name for name in limits if name != options[0]
    ]
    assert done.stderr.count("; ") == 1


def test_a_forced_version_has_what_spoke_against_it_in_the_history(base: Path) -> None:
    """Behind the reason that was given."""
    done = promote("--force", "--json", "--reason", "urgent", found=evidence(agreeing=89, right=(2, 0)))
    assert done.exit_code == 0
    first, second = json.loads(done.stdout)["objections"]
    assert json.loads(done.stdout)["forced"] is True
    assert read_labels(base).history[0].reason == f"urgent; forced: {first}; forced: {second}"


@pytest.mark.parametrize(("arguments", "version"), [([], 3), (["canary"], 3), (["1"], 1), (["blue"], 1)])
def test_a_candidate_is_a_label_or_a_version(base: Path, arguments: list[str], version: int) -> None:
    """`canary` by default; a dry run says what would happen, and moves nothing."""
    with labels_writer(base) as writer:
        writer.move({"blue": 1}, action="label")
    done = promote(*arguments, "--dry-run", found=evidence(version=version))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"stable would go from 2 to {version}"
    assert done.stderr == ""
    assert len(read_labels(base).history) == 1


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ("green", "green is no label: there are canary, stable, or name a version"),
        ("9", "version 9 is not there, only 1, 2, 3"),
        ("gone", "version 8 is not there, only 1, 2, 3"),
    ],
)
def test_a_candidate_that_is_not_there(base: Path, candidate: str, message: str) -> None:
    """By its name or number, or because the version of a label is gone."""
    if candidate == "gone":
        (base / "8").mkdir()
        with labels_writer(base) as writer:
            writer.move({"gone": 8}, action="label")
            (base / "8").rmdir()
    done = promote(candidate)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"Error: {message}\n")


def test_a_forced_dry_run_moves_nothing(base: Path) -> None:
    """It says what would happen; without force it fails as a promotion would."""
    bad = evidence(agreeing=1)
    done = promote("--force", "--dry-run", found=bad)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "stable would go from 2 to 3")
    done = promote("--dry-run", found=bad)
    assert done.exit_code == 1
    assert "would go" not in done.stdout
    assert not (base / "labels.json").exists()


@pytest.mark.parametrize(("watch", "looked"), [(4, 4.0), (None, 10.0), (25, 10.0)])
def test_what_is_usual_is_looked_at_before(
    base: Path, server: SimulatedServer, clock: PlannedClock, watch: float | None, looked: float
) -> None:
    """For ten seconds, or for as long as it is watched; half a minute by default."""
    done = promote(watch=watch)
    assert done.exit_code == 0, done.stderr
    assert clock.slept[0] == looked
    assert sum(clock.slept) == pytest.approx(looked + (30 if watch is None else watch))
    assert done.stderr.splitlines()[:2] == [
        f"{server.url} answers by it",
        f"Watching for {30 if watch is None else watch} s; Ctrl-C ends the watch, and stable stays 3",
    ]


def test_requests_of_the_watch_are_counted(base: Path, server: SimulatedServer, clock: PlannedClock) -> None:
    """Not those of before; the rate of errors and the mean are told."""
    clock.after(5, lambda: setattr(server, "metrics", METRICS.format(ok=120, failed=10, microseconds=2e6)))
    clock.after(12, lambda: setattr(server, "metrics", METRICS.format(ok=310, failed=20, microseconds=4e6)))
    done = promote("--json")
    assert "0 requests, 0.0% failed, 0.00 ms on average" in done.stderr
    clock.slept.clear()
    with labels_writer(base) as writer:
        writer.move({"stable": 2}, action="label")
    done = promote("--json", watch=9)
    assert json.loads(done.stdout)["watch"] == {"requests": 200, "errors": 10, "mean_ms": 2e6 / 190 / 1000, "fault": ""}
    assert done.stderr.splitlines()[-1] == "200 requests, 5.0% failed, 10.53 ms on average"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A models.config that another server reads."""
    path = tmp_path / "models.config"
    path.write_text('model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }')
    return path


def test_a_version_that_breaks_goes_back(
    base: Path, server: SimulatedServer, clock: PlannedClock, config: Path
) -> None:
    """With the reason, in the history too; a models.config follows, and is told of twice."""
    server.metrics = METRICS.format(ok=100, failed=0, microseconds=1e6)
    clock.after(6, lambda: setattr(server, "metrics", METRICS.format(ok=150, failed=50, microseconds=1.5e6)))
    done = promote("--json", "--models-config", config, watch=5)
    fault = f"50 of 100 requests to {server.url} failed, 50.0%; before it were 0.0%"
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == f"Error: Rolled back to 2: {fault}"
    told = f"{config} has the labels: its server looks at it by --model_config_file_poll_wait_seconds"
    assert done.stderr.splitlines().count(told) == 2
    result = json.loads(done.stdout)
    assert (result["promoted"], result["rolled_back"], result["watch"]["fault"]) == (False, True, fault)
    assert [tuple(move)[1:6] for move in read_labels(base).history] == [
        ("stable", 2, 3, "promote", ""),
        ("stable", 3, 2, "rollback", fault),
    ]
    assert 'key: "stable"\n      value: 2\n' in config.read_text()


def test_slower_answers_than_allowed_go_back(server: SimulatedServer, clock: PlannedClock) -> None:
    """By the ratio that the evidence is held to as well."""
    clock.after(6, lambda: setattr(server, "metrics", METRICS.format(ok=200, failed=0, microseconds=2.75e6)))
    done = promote(watch=5)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: Rolled back to 2: requests to {server.url} take 17.50 ms on average, 1.75 of 10.00 ms before, "
        "more than 1.5"
    )
    assert "went from" not in done.stdout


def test_answers_as_slow_as_allowed_stay(server: SimulatedServer, clock: PlannedClock) -> None:
    """15 ms are half as long again as 10."""
    clock.after(6, lambda: setattr(server, "metrics", METRICS.format(ok=200, failed=0, microseconds=2.5e6)))
    done = promote(watch=5)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "stable went from 2 to 3")
    assert done.stderr.splitlines()[-1] == "100 requests, 0.0% failed, 15.00 ms on average"


def test_ctrl_c_ends_the_watch_alone(base: Path, server: SimulatedServer, clock: PlannedClock) -> None:
    """The version stays, and nothing is told of requests."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.after(5.5, interrupt)
    done = promote("--json", watch=5)
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1] == "The watch ended early: stable stays 3"
    assert "watch" not in json.loads(done.stdout)
    assert read_labels(base).moved == {"stable": 3}
    assert server.url in done.stderr


def test_a_server_that_has_not_loaded_the_version_is_waited_for(server: SimulatedServer, clock: PlannedClock) -> None:
    """As long as --wait says, half a minute by default; nothing moves then."""
    server.states[3] = "LOADING"
    done = promote()
    assert done.exit_code == 1
    assert done.stderr == f"Error: {server.url} has not loaded version 3 in 30 s (--wait takes more): LOADING\n"
    assert sum(clock.slept) == pytest.approx(30, abs=0.3)
    done = promote("--wait", "2.5")
    assert "in 2.5 s (--wait takes more)" in done.stderr


def test_a_server_that_does_not_follow_keeps_the_label(base: Path, server: SimulatedServer) -> None:
    """It is put back within --wait."""
    server.labels = {"stable": 2}
    done = promote("--wait", "1.5")
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: {server.url} does not follow in 1.5 s (--wait takes more): stable is version 2 there, not 3; "
        "put back: stable=by default\n"
    )
    assert read_labels(base).moved == {}


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("--min-agreement", ["0", "1"], ["-0.1", "1.1"]),
        ("--max-accuracy-drop", ["0", "1"], ["-0.1", "1.1"]),
        ("--max-latency-ratio", ["0.1", "1000"], ["0", "-1"]),
        ("--wait", ["0"], ["-0.1"]),
        ("--watch", ["0"], ["-0.1"]),
    ],
)
@pytest.mark.usefixtures("base")
def test_the_range_of_each_number(option: str, good: list[str], bad: list[str]) -> None:
    """A share is one of 0 to 1, a ratio is above 0, seconds are none or more."""
    for value in good:
        assert promote(option, value, "--dry-run", "--force").exit_code == 0
    for value in bad:
        done = promote(option, value, "--dry-run", "--force", watch=None)
        assert (done.exit_code, f"Invalid value for '{option}'" in done.stderr) == (2, True)


def test_evidence_is_of_the_two_versions(base: Path) -> None:
    """Other versions are told; a file that is no JSON is none, and is taken for a recording."""
    path = base / "evidence.json"
    path.write_text(json.dumps(evidence(1, 3).to_json()))
    assert given_evidence(path, 1, 3) == evidence(1, 3)
    for stable, version in ((2, 3), (1, 2), (3, 1)):
        with pytest.raises(RolloutUsageError) as error:
            given_evidence(path, stable, version)
        assert str(error.value) == (
            f"{path} compares version 3 with 1, not {version} with {stable}, which is stable: compare these"
        )
    assert given_evidence(base / "missing.tfrecord", 1, 3) is None


@pytest.mark.usefixtures("base")
def test_several_inputs_are_compared_now() -> None:
    """Evidence that was made before stands alone: beside another input it is no recording."""
    Path("other.tfrecord").touch()
    done = promote("--evidence", "other.tfrecord", "--server", "grpc://127.0.0.1:1")
    assert done.exit_code != 0
    assert "agreement" not in done.stdout


def watched(base: Path, seconds: float, **options: Any) -> tuple[str, watch_module.Counts]:
    """A watch of version 3 from now on."""
    before, start = options.get("before", {}), options.get("start", {})
    return watch_module.watch(
        base, "stable", 3, before, start, seconds=seconds, max_latency_ratio=options.get("max_latency_ratio")
    )


def test_a_watch_looks_every_second_and_at_its_end(base: Path, clock: PlannedClock) -> None:
    """The last pause is what is left."""
    assert watched(base, 2.5) == ("", watch_module.Counts())
    assert clock.slept == [1.0, 1.0, 0.5, 0.0]


def test_a_server_that_is_gone_says_nothing_against_a_version(base: Path, server: SimulatedServer) -> None:
    """It may come back; one that has the version and gives another under the label does."""
    server.states = {}
    server.metrics = ""
    assert watched(base, 0)[0] == ""
    server.states = {3: "AVAILABLE"}
    server.labels = {}
    assert watched(base, 0)[0] == f"stable is version None at {server.url}, not 3"


def test_all_servers_are_watched(base: Path, server: SimulatedServer) -> None:
    """Their requests add up; each is held to what it did before."""
    with labels_writer(base) as writer:
        writer.move({"stable": 3}, action="label")
    counts = watch_module.Counts
    with simulated_server(base, 8501) as other:
        other.metrics = METRICS.format(ok=30, failed=2, microseconds=3e5)
        start = {server.url: counts(60, 0, 60, 0.5)}
        before = {other.url: counts(100, 6, 94, 1.0)}
        fault, seen = watched(base, 0, before=before, start=start)
        assert fault == ""
        assert seen == pytest.approx(counts(40 + 32, 2, 40 + 30, 0.5 + 0.3))
        fault, _ = watched(base, 0, start=start)
        assert fault == f"2 of 32 requests to {other.url} failed, 6.2%; before it were 0.0%"


def test_the_fewest_requests_that_say_something(base: Path, server: SimulatedServer) -> None:
    """Twenty with a time, before and since."""
    with labels_writer(base) as writer:
        writer.move({"stable": 3}, action="label")
    counts = watch_module.Counts
    for ok, timed, is_told in ((20, 20, True), (19, 20, False), (20, 19, False)):
        server.metrics = METRICS.format(ok=ok, failed=100 - ok, microseconds=ok * 1e6)
        before = {server.url: counts(100, 100 - ok, timed, timed * 0.1)}
        assert bool(watched(base, 0, before=before, max_latency_ratio=2)[0]) == is_told
