"""Work that hangs: how long it is waited for, and what goes on beside it."""

from __future__ import annotations

import threading

import pytest

from serving.embedded.models.threads import Caller, Overdue, Places


def wait(gate: threading.Event) -> None:
    """Until it is set."""
    assert gate.wait(10)


def test_a_call_gives_what_its_work_gives() -> None:
    """Or raises what it raises; all in one thread."""
    caller = Caller("look")

    with pytest.raises(ValueError, match="no"):
        caller.call(lambda: int("no"), 10)
    assert caller.call(threading.get_ident, 10) == caller.call(threading.get_ident, 10) != threading.get_ident()


def test_a_call_that_hangs_is_left() -> None:
    """The next one gets another thread; the work is done when it comes back."""
    caller, gate = Caller("look"), threading.Event()

    with pytest.raises(Overdue) as raised:
        caller.call(gate.wait, 0.01)

    assert caller.call(lambda: 5, 10) == 5
    assert not raised.value.work.done()
    gate.set()
    assert raised.value.work.result(10)


def test_so_many_places_at_a_time() -> None:
    """What waits begins when a place is free."""
    places, gate, begun = Places(2, 0, "load"), threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        assert gate.wait(10)

    for _ in range(3):
        places.submit(work, lambda: None)

    assert all(begun.acquire(timeout=10) for _ in range(2))
    assert not begun.acquire(timeout=0.05)
    gate.set()
    assert begun.acquire(timeout=10)


def test_work_that_hangs_loses_its_place() -> None:
    """It is told once; its end gives no second place."""
    places, gate, ended = Places(1, 0.3, "load"), threading.Event(), threading.Event()
    overdue: list[str] = []

    def hang() -> None:
        assert gate.wait(10)
        ended.set()

    places.submit(hang, lambda: overdue.append("hang"))
    after = threading.Event()
    places.submit(after.set, lambda: overdue.append("after"))
    assert after.wait(10)
    gate.set()
    assert ended.wait(10)

    block, second = threading.Event(), threading.Event()
    slow = Places(1, 0, "load")
    slow.submit(lambda: wait(block), lambda: None)
    slow.submit(second.set, lambda: None)
    assert not second.wait(0.05)
    block.set()
    assert second.wait(10)
    # What came after may have been late too, on a busy machine.
    assert overdue[0] == "hang"
    assert overdue.count("hang") == 1


def test_work_that_raises_gives_its_place_back() -> None:
    """And the log has it."""
    places, after = Places(1, 10, "load"), threading.Event()

    def fail() -> None:
        raise KeyError

    places.submit(fail, lambda: None)
    places.submit(after.set, lambda: None)

    assert after.wait(10)


def test_what_waits_can_be_forgotten() -> None:
    """It never begins."""
    places, gate, begun = Places(1, 0, "load"), threading.Event(), threading.Event()
    places.submit(lambda: wait(gate), lambda: None)
    places.submit(begun.set, lambda: None)

    places.clear()
    gate.set()

    assert not begun.wait(0.05)


def test_a_call_waits_as_long_as_it_may(caplog: pytest.LogCaptureFixture) -> None:
    """Its thread has the name that it was given, and ends with work that came back too late."""
    caller, gate = Caller("look"), threading.Event()
    assert caller.call(lambda: threading.current_thread().name, 10) == "look"
    thread = caller.call(threading.current_thread, 10)
    assert thread.daemon
    with pytest.raises(Overdue):
        caller.call(gate.wait, 0.01)
    assert caller.call(threading.current_thread, 10) is not thread
    gate.set()
    thread.join(10)
    assert not thread.is_alive()
    assert not caplog.records


def test_whatever_work_raises_reaches_its_caller() -> None:
    """Also what is no error of a program's, and the thread goes on."""
    caller = Caller("look")

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        caller.call(leave, 10)
    assert caller.call(lambda: 1, 10) == 1


def test_work_that_has_ended_in_its_time_is_never_overdue(caplog: pytest.LogCaptureFixture) -> None:
    """Its timer is given up; one that raises is logged, and is not either."""
    places, overdue, done = Places(1, 3600, "load"), threading.Event(), threading.Event()
    names: list[str] = []

    def work() -> None:
        names.append(threading.current_thread().name)
        raise KeyError("no")

    places.submit(work, overdue.set)
    places.submit(done.set, overdue.set)
    assert done.wait(10)
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer) and each.interval == 3600]
    for timer in timers:
        timer.join(10)
        assert not timer.is_alive()
    assert not overdue.is_set()
    assert names == ["load"]
    assert [record.getMessage() for record in caplog.records] == ["unforeseen error in a thread"]
    assert caplog.records[0].exc_info


def test_a_thread_that_cannot_be_started_is_overdue_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its work has failed, and its place goes to what waits."""
    places, overdue, after = Places(1, 0, "load"), threading.Event(), threading.Event()

    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        places.submit(lambda: None, overdue.set)
    assert overdue.is_set()
    assert [record.getMessage() for record in caplog.records] == ["no thread more can be started"]
    places.submit(after.set, lambda: None)
    assert after.wait(10)
