"""The manager's states and its availability-preserving order, without TensorFlow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.apis.status import Code
from serving.embedded.models.manager import Manager, _Model
from serving.embedded.models.source import Aspired
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.models.versions import State, Version
from serving.errors import InvalidArgument, NotFound, StillLoading, Unavailable
from tests.support.fakes import FakeLoader, FakeServable, aspire
from tests.support.live import wait_until


@pytest.fixture
def loader() -> FakeLoader:
    """A loader of fakes."""
    return FakeLoader()


@pytest.fixture
def manager(loader: FakeLoader) -> Iterator[Manager[FakeServable]]:
    """A manager that does not retry by itself."""
    manager: Manager[FakeServable] = Manager(loader, max_num_load_retries=0)
    yield manager
    manager.stop()


def states(manager: Manager[FakeServable]) -> dict[int, State]:
    """The state of each version."""
    return {status.version: State(status.state) for status in manager.statuses("m")}


def settle(manager: Manager[FakeServable], base: Path, *versions: int) -> None:
    """Aspires to these versions, and waits until each has been loaded or has failed."""
    aspire(manager, base, *versions)
    assert manager.wait_until_settled(["m"], 10)


def test_the_newest_available_version_serves(manager: Manager[FakeServable], tmp_path: Path) -> None:
    """Without a version asked for, the newest one; with one, that one; newest first in the status."""
    settle(manager, tmp_path, 2, 10)

    with manager.use("m") as newest, manager.use("m", 2) as older:
        assert (newest.servable.version, older.servable.version) == (10, 2)
    assert [status.version for status in manager.statuses("m")] == [10, 2]


def test_the_new_version_is_loaded_before_the_old_one_goes(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """While version 2 loads, version 1 still serves; afterwards it is unloaded."""
    settle(manager, tmp_path, 1)
    loader.gates[2] = threading.Event()

    aspire(manager, tmp_path, 2)

    with manager.use("m") as version:
        assert version.number == 1
    assert states(manager) == {2: State.LOADING, 1: State.AVAILABLE}
    loader.gates[2].set()
    assert loader.loaded[1].closed.wait(10)
    with manager.use("m") as version:
        assert version.number == 2


def test_a_version_in_use_is_unloaded_after_its_last_user(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """A request in flight finishes on the version that it began with."""
    settle(manager, tmp_path, 1)
    with manager.use("m") as version:
        aspire(manager, tmp_path, 2)
        assert manager.wait_until_settled(["m"], 10)
        assert states(manager)[1] == State.UNLOADING
        assert not loader.loaded[version.number].closed.is_set()
    assert loader.loaded[1].closed.wait(10)


def test_a_version_in_use_twice_is_unloaded_after_both_and_once(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """Whichever of its users is the last; nor is it closed again when the server stops."""
    settle(manager, tmp_path, 1)
    first, second = manager.use("m"), manager.use("m")
    settle(manager, tmp_path, 2)

    first.release()
    assert states(manager)[1] == State.UNLOADING
    assert (second.servable.version, second.servable.closes) == (1, 0)
    second.release()

    wait_until(lambda: states(manager)[1] == State.END)
    manager.stop()
    assert [servable.closes for servable in loader.loaded.values()] == [1, 1]


def test_a_version_is_drained_once() -> None:
    """Whoever counts as a user after it cannot have its servable closed again."""
    version: Version[FakeServable] = Version("m", 1, VersionDirectory(Path("/m/1")), threading.RLock())
    version.put(FakeServable(1))
    drained: list[int] = []
    version.use()
    version.take(lambda: drained.append(1))
    assert drained == []

    for _ in range(2):
        version.release()
        version.use()

    assert drained == [1]


def test_a_broken_version_leaves_the_old_one_serving(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """The status shows the broken version's error; requests go to the old one."""
    loader.broken = {2}
    settle(manager, tmp_path, 1)

    settle(manager, tmp_path, 2)
    with manager.use("m") as version:
        assert version.number == 1
    broken = manager.statuses("m")[0]
    assert (broken.version, broken.state, broken.status.error_message) == (2, State.END, "version 2 is broken")


def test_a_mended_version_is_taken_up(manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """A version that failed is tried again as soon as its files change, and only then."""
    loader.broken = {1}
    settle(manager, tmp_path, 1)
    loader.broken = set()

    aspire(manager, tmp_path, 1)
    assert loader.order == [1]
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"mended")
    settle(manager, tmp_path, 1)
    with manager.use("m") as version:
        assert version.number == 1


@pytest.fixture
def patient(loader: FakeLoader) -> Iterator[Manager[FakeServable]]:
    """A manager that tries twice again, an hour apart: `retry` lets the hour pass."""
    manager: Manager[FakeServable] = Manager(loader, max_num_load_retries=2, load_retry_interval_seconds=3600)
    yield manager
    manager.stop()


def waiting_retries(manager: Manager[FakeServable]) -> list[threading.Timer]:
    """The retries that are still to come, of any version that the manager ever had."""
    retries = (each for each in threading.enumerate() if isinstance(each, threading.Timer))
    return [retry for retry in retries if retry.function == manager._retry and not retry.finished.is_set()]


def retry(manager: Manager[FakeServable]) -> None:
    """Lets the time of the one retry that waits pass at once, and waits until the load has ended."""
    (timer,) = waiting_retries(manager)
    assert timer.interval == 3600
    timer.cancel()
    timer.function(*timer.args)
    wait_until(lambda: State.LOADING not in states(manager).values())


def test_a_failed_load_is_retried_so_often_and_no_more(
    patient: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """max_num_load_retries tries follow the first, load_retry_interval apart."""
    loader.broken = {1}
    settle(patient, tmp_path, 1)

    retry(patient)
    assert loader.order == [1, 1]
    retry(patient)

    assert loader.order == [1, 1, 1]
    assert waiting_retries(patient) == []


def test_a_load_that_succeeds_at_last_is_not_retried(
    patient: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """The version serves, and its error is gone."""
    loader.broken = {1}
    settle(patient, tmp_path, 1)
    loader.broken = set()

    retry(patient)

    assert waiting_retries(patient) == []
    (status,) = patient.statuses("m")
    assert (status.state, status.status.error_message) == (State.AVAILABLE, "")


def test_a_version_that_is_no_longer_wanted_is_not_retried(
    patient: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """Its directory is gone while the retry waits."""
    loader.broken = {1}
    settle(patient, tmp_path, 1)
    settle(patient, tmp_path, 2)

    retry(patient)

    assert loader.order == [1, 2]
    assert states(patient) == {2: State.AVAILABLE, 1: State.END}


def test_a_version_that_was_mended_meanwhile_is_not_retried(
    patient: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """The mended one has been loaded already: a second servable would never be closed."""
    loader.broken = {1}
    settle(patient, tmp_path, 1)
    loader.broken = set()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"mended")
    settle(patient, tmp_path, 1)

    retry(patient)

    assert loader.order == [1, 1]
    assert states(patient) == {1: State.AVAILABLE}


def test_a_version_that_is_no_longer_wanted_when_its_turn_comes_is_not_loaded(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """It has waited for the load before it, and was replaced meanwhile."""
    loader.gates[1] = threading.Event()
    aspire(manager, tmp_path, 1)
    aspire(manager, tmp_path, 1, 2)
    aspire(manager, tmp_path, 1, 3)

    loader.gates[1].set()

    wait_until(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END, 3: State.AVAILABLE})
    assert loader.order == [1, 3]


def test_stop_gives_up_the_retries(patient: Manager[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """Nothing is loaded after it."""
    loader.broken = {1}
    settle(patient, tmp_path, 1)

    patient.stop()

    assert waiting_retries(patient) == []
    assert loader.order == [1]


def test_an_emptied_base_path_unloads_all_and_a_missing_one_nothing(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """None means that the base path could not be read."""
    settle(manager, tmp_path, 1)

    manager.set_aspired("m", Aspired(None, NotFound("gone")))
    assert states(manager) == {1: State.AVAILABLE}
    manager.set_aspired("m", Aspired({}, NotFound("empty")))

    assert loader.loaded[1].closed.wait(10)


def test_what_is_not_served_is_not_found(manager: Manager[FakeServable], tmp_path: Path) -> None:
    """An unknown model, and an unknown version of a known one, in TF Serving's words."""
    settle(manager, tmp_path, 1)

    with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(n\)$"):
        manager.use("n")
    with pytest.raises(NotFound, match=r"^Servable not found for request: Specific\(m, 9\)$"):
        manager.use("m", 9)


def test_a_configured_model_without_a_version_is_unavailable(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """Its error is in the answer, and comes back as soon as it can be served."""
    manager.set_aspired("m", Aspired(None, NotFound("no base path")))
    assert manager.wait_until_settled(["m"], 10)

    with pytest.raises(Unavailable, match=r"Latest\(m\): no base path") as raised:
        manager.use("m")

    assert raised.value.code == Code.UNAVAILABLE
    settle(manager, tmp_path, 1)
    manager.use("m").release()


def test_stop_closes_what_is_loaded(loader: FakeLoader, tmp_path: Path) -> None:
    """Nothing stays open."""
    manager: Manager[FakeServable] = Manager(loader)
    settle(manager, tmp_path, 1, 2)

    manager.stop()

    assert [servable.closes for servable in loader.loaded.values()] == [1, 1]


def test_a_load_that_hangs_holds_up_nothing(loader: FakeLoader, tmp_path: Path) -> None:
    """Its time over, it has failed, and the next version takes its place; when it comes back it is closed."""
    manager: Manager[FakeServable] = Manager(loader, load_timeout_seconds=0.1, max_num_load_retries=0)
    loader.gates[1] = threading.Event()

    settle(manager, tmp_path, 1, 2)
    assert states(manager) == {2: State.AVAILABLE, 1: State.END}
    hung = manager.statuses("m")[1].status
    assert (hung.error_code, "after 0.1 seconds (--load_timeout_seconds)" in hung.error_message) == (4, True)
    loader.gates[1].set()
    wait_until(lambda: 1 in loader.loaded)
    assert loader.loaded[1].closed.wait(10)
    assert states(manager) == {2: State.AVAILABLE, 1: State.END}
    manager.stop()


def test_what_hung_is_tried_again_when_it_hangs_no_more(loader: FakeLoader, tmp_path: Path) -> None:
    """Not before: each try would hang too, with a thread of its own."""
    manager: Manager[FakeServable] = Manager(loader, load_timeout_seconds=0.3, load_retry_interval_seconds=0.01)
    loader.gates[1] = threading.Event()
    aspire(manager, tmp_path, 1)
    wait_until(lambda: states(manager) == {1: State.END})
    aspire(manager, tmp_path, 1)
    assert loader.order == [1]

    loader.gates[1].set()

    wait_until(lambda: states(manager) == {1: State.AVAILABLE})
    assert loader.order == [1, 1]
    manager.stop()


def test_stop_waits_for_nothing_that_hangs(loader: FakeLoader, tmp_path: Path) -> None:
    """Neither for a load nor for a user; the rest is closed."""
    manager: Manager[FakeServable] = Manager(loader)
    settle(manager, tmp_path, 1)
    aspire(manager, tmp_path, 1, name="n")
    assert manager.wait_until_settled(["n"], 10)
    free = loader.loaded[1]
    loader.gates[2] = threading.Event()
    aspire(manager, tmp_path, 2)

    with manager.use("m"):
        begin = time.monotonic()
        manager.stop(0.2)
        assert time.monotonic() - begin < 5

    assert free.closed.is_set()
    loader.gates[2].set()
    wait_until(lambda: 2 in loader.loaded)
    assert loader.loaded[2].closed.wait(10)


def test_the_status_keeps_the_newest_of_what_has_ended(manager: Manager[FakeServable], tmp_path: Path) -> None:
    """A model that has had thousands of versions has a status of a hundred."""
    for version in range(1, 131):
        aspire(manager, tmp_path, version)
        assert manager.wait_until_settled(["m"], 10)
    # The last one may still be UNLOADING when its successor serves.
    wait_until(lambda: list(states(manager)) == list(range(130, 29, -1)))

    assert states(manager)[130] == State.AVAILABLE


def test_callers_are_told_no_paths(manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """Neither in the status nor when the model is asked; of a long name, its beginning."""

    def fail(_name: str, _version: int, directory: VersionDirectory) -> FakeServable:
        raise OSError(5, "Input/output error", f"{directory}/variables/a")

    manager._load = fail
    settle(manager, tmp_path, 1)

    text = "OSError: [Errno 5] Input/output error: 'variables/a'"
    assert manager.statuses("m")[0].status.error_message == text
    with pytest.raises(Unavailable) as raised:
        manager.use("m")
    assert str(raised.value) == f"Servable not found for request: Latest(m): {text}"
    with pytest.raises(NotFound) as missing:
        manager.use("m" * 10**6)
    assert str(missing.value) == f"Servable not found for request: Latest({'m' * 200}...)"


def test_a_hundred_ended_versions_are_told_of() -> None:
    """The oldest is forgotten first, and one that is still wanted, or has yet to end, never."""
    model: _Model[FakeServable] = _Model()
    lock = threading.RLock()
    for number in range(1, 104):
        version: Version[FakeServable] = Version("m", number, VersionDirectory(Path(str(number))), lock)
        model.versions[number] = version
        version.state, version.aspired = State.END, False
    model.versions[1].aspired = True
    model.versions[2].state = State.UNLOADING

    model.refresh()
    assert sorted(set(range(1, 104)) - set(model.versions)) == [3]

    model.versions[1].aspired = False
    model.refresh()
    assert sorted(set(range(1, 104)) - set(model.versions)) == [1, 3]


def test_the_log_has_the_path_that_clients_are_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a version that cannot be loaded, whichever error says so."""
    errors = {1: InvalidArgument(f"{tmp_path / '1'} is broken"), 2: OSError(f"{tmp_path / '2'} is broken")}

    def load(_name: str, number: int, _directory: VersionDirectory) -> FakeServable:
        raise errors[number]

    manager: Manager[FakeServable] = Manager(load, max_num_load_retries=0)
    settle(manager, tmp_path, 1, 2)
    texts = [status.status.error_message for status in manager.statuses("m")]
    manager.stop()

    assert [text.endswith("is broken") and str(tmp_path) not in text for text in texts] == [True, True]
    assert all(
        f"failed to load: {kind}{tmp_path / number} is broken" in caplog.text
        for kind, number in (("", "1"), ("OSError: ", "2"))
    )


def test_the_log_tells_of_every_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Loads, errors with their code and attempt, unloads; why a model is not served once for each reason."""
    caplog.set_level(logging.INFO)
    loader = FakeLoader()
    loader.broken = {2}
    manager: Manager[FakeServable] = Manager(loader, max_num_load_retries=0)
    for error in (NotFound("gone"), NotFound("gone"), StillLoading("being copied"), NotFound("gone again")):
        manager.set_aspired("m", Aspired(None, error))
    settle(manager, tmp_path, 1)
    settle(manager, tmp_path, 1, 2)
    manager.stop()
    fields: list[dict[str, Any]] = []
    for record in caplog.records:
        fields.append(dict(vars(record)["fields"]))
        seconds = fields[-1].pop("seconds", 0.0)
        assert 0 <= seconds == round(seconds, 3) < 60
    assert [(record.getMessage(), record.levelname) for record in caplog.records] == [
        ("m cannot be served yet: gone", "ERROR"),
        ("m cannot be served yet: gone again", "ERROR"),
        ("Successfully loaded servable version {name: m version: 1}", "INFO"),
        ("Servable {name: m version: 2} failed to load: version 2 is broken", "ERROR"),
        ("Done unloading servable version {name: m version: 1}", "INFO"),
    ]
    assert fields[2:4] == [
        {"model": "m", "version": 1},
        {"model": "m", "version": 2, "code": "INVALID_ARGUMENT", "attempt": 1, "error": "version 2 is broken"},
    ]


def test_what_stop_leaves_is_told(loader: FakeLoader, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is in use, and what is being loaded; nothing is aspired to afterwards."""
    manager: Manager[FakeServable] = Manager(loader)
    settle(manager, tmp_path, 1)
    loader.gates[2] = threading.Event()
    aspire(manager, tmp_path, 2)
    wait_until(lambda: loader.order == [1, 2])
    with manager.use("m"):
        manager.stop(0.05)
        assert sorted(record.getMessage() for record in caplog.records) == [
            "Servable {name: m version: 1} is left UNLOADING",
            "Servable {name: m version: 2} is left LOADING",
        ]
        assert manager.wait_until_settled(["m"], 0)
        aspire(manager, tmp_path, 3)
    assert list(states(manager)) == [2, 1]
    loader.gates[2].set()


def test_the_error_of_a_model(manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """That of its newest version that has one, or of its base path; none of one that is served or not configured."""
    assert manager.error("m") is None
    assert manager.statuses("m") == []
    assert (manager.servables("m"), manager.failed("m"), manager.has_version("m", 1)) == ({}, set(), False)
    loader.gates[3] = threading.Event()
    aspire(manager, tmp_path, 3)
    assert str(manager.error("m")) == "version 3 of m is being loaded"
    assert isinstance(manager.error("m"), StillLoading)
    assert not manager.wait_until_settled(["m"], 0)
    with pytest.raises(
        Unavailable, match=r"^Servable not found for request: Latest\(m\): version 3 of m is being loaded$"
    ):
        manager.use("m")
    loader.gates[3].set()
    loader.broken = {3, 4}
    settle(manager, tmp_path, 3, 4)
    assert str(manager.error("m")) == "version 4 is broken"
    assert manager.failed("m") == {3, 4}
    manager.set_aspired("m", Aspired(None, NotFound("gone")))
    assert str(manager.error("m")) == "version 4 is broken"
    settle(manager, tmp_path, 5)
    assert manager.error("m") is None
    assert (manager.has_version("m", 5), manager.has_version("m", 4)) == (True, False)
    assert {number: servable.version for number, servable in manager.servables("m").items()} == {5: 5}


def test_when_models_are_settled(manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """All of them: what is still being copied is not, what has no version and a reason is."""
    assert not manager.wait_until_settled(["m"], 0)
    manager.set_aspired("m", Aspired(None, StillLoading("being copied")))
    assert not manager.wait_until_settled(["m"], 0)
    manager.set_aspired("m", Aspired({}, NotFound("empty")))
    assert manager.wait_until_settled(["m"], 0)
    manager.set_aspired("m", Aspired({}))
    assert not manager.wait_until_settled(["m"], 0)
    loader.broken = {1}
    settle(manager, tmp_path, 1, 2)
    assert not manager.wait_until_settled(["m", "n"], 0)


def test_loads_and_unloads_take_turns(tmp_path: Path) -> None:
    """As many at once as there are threads for them; one at least."""
    loader = FakeLoader()
    loader.gates = {number: threading.Event() for number in (1, 2, 3)}
    manager: Manager[FakeServable] = Manager(loader, num_load_threads=2)
    aspire(manager, tmp_path, 1, 2, 3)
    wait_until(lambda: len(loader.order) == 2)
    loader.gates[1].set()
    wait_until(lambda: len(loader.order) == 3)
    for gate in loader.gates.values():
        gate.set()
    assert manager.wait_until_settled(["m"], 10)
    manager.stop()
    single: Manager[FakeServable] = Manager(FakeLoader(), num_load_threads=0, num_unload_threads=0)
    settle(single, tmp_path, 1)
    single.stop()
    assert states(single) == {1: State.END}


def test_a_servable_that_cannot_be_closed_is_gone_all_the_same(
    manager: Manager[FakeServable], loader: FakeLoader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the error."""
    settle(manager, tmp_path, 1)

    def fail() -> None:
        raise OSError("no")

    loader.loaded[1].close = fail  # type: ignore[method-assign]
    settle(manager, tmp_path, 2)
    wait_until(lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.getMessage() == "unloading m version 1"
    assert record.exc_info
