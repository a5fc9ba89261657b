"""A label that moves: what is written down, what is waited for, and when it is put back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_common.labels import LABELS_FILE, labels_writer, read_labels
from rollout.errors import RolloutError, RolloutUsageError
from rollout.move import changed, move_labels, previous, versions_there, wait_until_loaded
from tests.support.simulated_servers import PlannedClock, SimulatedServer, simulated_server

POLL = 0.2


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model base path with the versions 1, 2 and 7; no server runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for version in (1, 2, 7):
        (tmp_path / "models/m" / str(version)).mkdir(parents=True)
    return tmp_path / "models/m"


@pytest.fixture
def server(base: Path) -> Iterator[SimulatedServer]:
    """A server of it, which follows the labels at once."""
    with simulated_server(base) as simulated:
        yield simulated


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> PlannedClock:
    """The one that is waited by."""
    clock = PlannedClock()
    monkeypatch.setattr("rollout.move.time", clock)
    return clock


def history(base: Path) -> list[tuple[object, ...]]:
    """Every move without its time."""
    return [tuple(move)[1:] for move in read_labels(base).history]


def test_a_move_is_written_down_with_what_speaks_for_it(base: Path, clock: PlannedClock) -> None:
    """Without servers nothing is waited for; what is as it should be already is no move."""
    evidence = {"agreement": 1.0}
    versions = {"stable": 7, "blue": 1, "canary": 7}
    move_labels(base, versions, action="promote", reason="better", evidence=evidence, wait_seconds=30)
    assert history(base) == [
        ("stable", 2, 7, "promote", "better", evidence),
        ("blue", None, 1, "promote", "better", evidence),
        ("canary", 7, 7, "promote", "better", evidence),
    ]
    move_labels(base, versions, action="label", wait_seconds=30)
    assert len(history(base)) == 3
    move_labels(base, {"stable": None}, action="label", wait_seconds=30)
    assert history(base)[3:] == [("stable", 7, None, "label", "", None)]
    assert read_labels(base).moved == {"blue": 1, "canary": 7}
    assert clock.slept == []


def test_a_version_that_is_not_there_moves_nothing(base: Path) -> None:
    """Whatever else is to move with it."""
    with pytest.raises(RolloutUsageError) as error:
        move_labels(base, {"stable": 1, "blue": 9}, action="label", wait_seconds=30)
    assert str(error.value) == f"blue=9: {base} has no version 9, only 1, 2, 7"
    assert not (base / LABELS_FILE).exists()


def test_what_changes_is_what_is_named_otherwise(base: Path) -> None:
    """Of labels that were moved and of those by default."""
    with labels_writer(base) as writer:
        writer.move({"stable": 1, "blue": 2}, action="label")
    versions = {"stable": 1, "blue": 7, "canary": 7, "green": None}
    assert changed(read_labels(base), versions, base) == {"blue": 7, "canary": 7}


def test_every_server_has_to_answer_by_it(base: Path, server: SimulatedServer, clock: PlannedClock) -> None:
    """Each is told once, when it does; looks are a fifth of a second apart."""
    told: list[str] = []
    with simulated_server(base, 8501) as other:
        other.labels = {"stable": 2}
        clock.after(3 * POLL, lambda: setattr(other, "labels", None))
        move_labels(base, {"stable": 1}, action="label", wait_seconds=30, report=told.append)
    assert told == [f"{server.url} answers by it", f"{other.url} answers by it"]
    assert clock.slept == [POLL] * 3


def test_a_label_that_returns_to_its_version_by_default_is_waited_for_too(base: Path, server: SimulatedServer) -> None:
    """One that is removed has none."""
    move_labels(base, {"stable": 1, "blue": 1}, action="label", wait_seconds=30)
    server.labels = {"stable": 1, "blue": 1}
    with pytest.raises(RolloutError, match=r": stable is version 1 there, not 2; put back: stable=1$"):
        move_labels(base, {"stable": None}, action="label", wait_seconds=1)
    with pytest.raises(RolloutError, match=r": blue is version 1 there, not None; put back: blue=1$"):
        move_labels(base, {"blue": None}, action="label", wait_seconds=1)
    server.labels = {"stable": 2}
    move_labels(base, {"stable": None, "blue": None}, action="label", wait_seconds=1)
    assert read_labels(base).moved == {}


def test_a_server_that_ends_meanwhile_need_not_follow(base: Path, clock: PlannedClock) -> None:
    """It is not waited for any longer."""
    server = simulated_server(base)
    server.__enter__().labels = {}
    clock.after(2 * POLL, lambda: server.__exit__(None, None, None))
    move_labels(base, {"stable": 1}, action="label", wait_seconds=30)
    assert clock.slept == [POLL] * 2
    assert read_labels(base).moved == {"stable": 1}


def test_a_label_is_put_back_where_a_server_does_not_follow(
    base: Path, server: SimulatedServer, clock: PlannedClock
) -> None:
    """Once its seconds have passed, and not at the instant; what was seen is in the history."""
    server.labels = {"stable": 2}
    clock.now = 0.0
    with pytest.raises(RolloutError) as error:
        move_labels(base, {"stable": 1, "canary": 2}, action="label", wait_seconds=2 * POLL)
    seen = f"{server.url} does not follow in 0.4 s (--wait takes more): stable is version 2 there, not 1"
    assert str(error.value) == f"{seen}; put back: stable=by default, canary=by default"
    assert type(error.value) is RolloutError
    assert clock.slept == [POLL] * 3
    assert history(base)[2:] == [
        ("stable", 1, None, "put back", seen, None),
        ("canary", 2, None, "put back", seen, None),
    ]
    assert read_labels(base).moved == {}


def test_a_server_that_lags_is_told_though_nothing_moved(base: Path, server: SimulatedServer) -> None:
    """There is nothing to put back."""
    with labels_writer(base) as writer:
        writer.move({"stable": 1}, action="label")
    server.labels = {}
    with pytest.raises(RolloutError) as error:
        move_labels(base, {"stable": 1}, action="label", wait_seconds=0)
    assert str(error.value) == (
        f"{server.url} does not follow in 0 s (--wait takes more): stable is version none there, not 1; "
        "nothing was moved"
    )
    assert len(history(base)) == 1


def test_a_label_is_put_back_where_its_version_cannot_be_loaded(
    base: Path, server: SimulatedServer, clock: PlannedClock
) -> None:
    """At once; a version that was unloaded well, or another one's failure, is no reason."""
    server.labels = {"stable": 2}
    server.states |= {1: "END", 7: "END"}
    server.errors[7] = "no graph"
    clock.after(2 * POLL, lambda: server.errors.update({1: "no weights"}))
    with pytest.raises(RolloutError) as error:
        move_labels(base, {"stable": 1}, action="label", wait_seconds=30)
    assert str(error.value) == (
        f"{server.url} cannot follow: version 1 cannot be loaded: no weights; put back: stable=by default"
    )
    assert clock.slept == [POLL] * 2


def test_a_version_that_still_tries_to_load_is_waited_for(
    base: Path, server: SimulatedServer, clock: PlannedClock
) -> None:
    """An error counts at its end only."""
    server.labels = {"stable": 2}
    server.states[1] = "LOADING"
    server.errors[1] = "once more"
    with pytest.raises(RolloutError, match="does not follow in 1 s"):
        move_labels(base, {"stable": 1}, action="label", wait_seconds=1)
    assert sum(clock.slept) == pytest.approx(1)


@pytest.mark.parametrize(("error", "reason"), [(KeyboardInterrupt(), "interrupted"), (ValueError("odd"), "odd")])
@pytest.mark.usefixtures("server")
def test_whatever_ends_the_wait_puts_the_label_back(base: Path, error: BaseException, reason: str) -> None:
    """Ctrl-C too, which goes on."""

    def report(_: str) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        move_labels(base, {"stable": 1}, action="label", wait_seconds=30, report=report)
    assert caught.value is error
    assert history(base)[1:] == [("stable", 1, None, "put back", reason, None)]


def test_a_new_version_is_waited_for_until_every_server_has_it(
    base: Path, server: SimulatedServer, clock: PlannedClock
) -> None:
    """Without servers, or where all have it, not at all."""
    wait_until_loaded(base, 7, 0)
    assert clock.slept == []
    del server.states[7]
    clock.after(2 * POLL, lambda: server.states.update({7: "LOADING"}))
    clock.after(4 * POLL, lambda: server.states.update({7: "AVAILABLE"}))
    wait_until_loaded(base, 7, 30)
    assert clock.slept == [POLL] * 4


def test_a_new_version_that_is_not_loaded_in_time(base: Path, server: SimulatedServer, clock: PlannedClock) -> None:
    """Its state is told; the last instant is still in time."""
    server.states[7] = "LOADING"
    clock.now = 0.0
    with pytest.raises(RolloutError) as error:
        wait_until_loaded(base, 7, 2 * POLL)
    assert str(error.value) == f"{server.url} has not loaded version 7 in 0.4 s (--wait takes more): LOADING"
    assert clock.slept == [POLL] * 3


@pytest.mark.parametrize("state", [None, "UNLOADING", "END"])
def test_a_version_that_nothing_asks_for_is_not_loaded(base: Path, server: SimulatedServer, state: str | None) -> None:
    """How a server is made to load it is told, of one that never did and of one that unloads it or has."""
    del server.states[7]
    if state:
        server.states[7] = state
    with pytest.raises(RolloutError) as error:
        wait_until_loaded(base, 7, 0)
    assert str(error.value) == (
        f"{server.url} has not loaded version 7 in 0 s (--wait takes more): a label asks for it, `fashion label NAME=7`"
    )


def test_a_new_version_that_cannot_be_loaded(base: Path, server: SimulatedServer, clock: PlannedClock) -> None:
    """The first server's reason, at once."""
    server.states[7] = "END"
    server.errors[7] = "no graph"
    with pytest.raises(RolloutError) as error:
        wait_until_loaded(base, 7, 30)
    assert str(error.value) == f"{server.url}: version 7 cannot be loaded: no graph"
    assert clock.slept == []


def test_versions_are_told_in_order(base: Path) -> None:
    """By number; without any the directory is named."""
    (base / "10").mkdir()
    assert versions_there(base) == [1, 2, 7, 10]
    with pytest.raises(RolloutUsageError) as error:
        versions_there(base.with_name("none"))
    assert str(error.value).startswith("Could not find base path ")
    assert str(error.value).endswith(". --model-base-path names another")


def test_the_version_before_is_that_of_the_last_move(base: Path) -> None:
    """It has to be there."""
    with pytest.raises(RolloutUsageError) as error:
        previous(base, "stable")
    assert str(error.value) == "stable was never moved: `fashion label stable=N` names a version of 1, 2, 7"
    with labels_writer(base) as writer:
        writer.move({"stable": 1}, action="label")
        writer.move({"stable": 7}, action="label")
    assert previous(base, "stable") == 1
    (base / "1").rmdir()
    with pytest.raises(RolloutUsageError) as error:
        previous(base, "stable")
    assert str(error.value) == (
        "stable named version 1 before, which is gone: `fashion label stable=N` names one of 2, 7"
    )
    assert json.loads((base / LABELS_FILE).read_text())["labels"] == {"stable": 7}


def test_a_rollback_that_no_server_followed_can_be_tried_again(base: Path, server: SimulatedServer) -> None:
    """It was put back: the version before is the one that it was; a move that was put back is none."""
    move_labels(base, {"stable": 1}, action="label", wait_seconds=1)
    move_labels(base, {"stable": 7}, action="label", wait_seconds=1)
    for action, version in (("rollback", 1), ("label", 2), ("rollback", 1)):
        server.labels = {}
        with pytest.raises(RolloutError, match="put back: stable=7"):
            move_labels(base, {"stable": version}, action=action, wait_seconds=0)
        assert previous(base, "stable") == 1
    server.labels = None
    move_labels(base, {"stable": 1}, action="rollback", wait_seconds=1)
    assert previous(base, "stable") == 2
