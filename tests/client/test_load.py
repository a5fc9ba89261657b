"""Closed and open loops without a server; by a clock of the test's own where times matter."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat

import pytest

from client import load
from client.errors import ClientUsageError, ServerError, server_error
from client.limits import MAX_RATE
from client.load import closed_loop, constant, open_loop, poisson
from tests.support.clocks import Clock


class Sender(Clock):
    """For loops of one sender."""

    def request(self, seconds: float, code: str = "") -> Callable[[], int]:
        """A request of two images that is answered after some seconds."""

        def request() -> int:
            self.now += seconds
            if code:
                raise server_error(code, "died")
            return 2

        return request


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the loops go by."""
    clock = Sender()
    monkeypatch.setattr(load, "time", clock)
    return clock


def test_a_closed_loop_sends_the_next_request_when_it_has_the_last_answer(clock: Sender) -> None:
    """What begins in the warm-up does not count; what begins before the end is waited for."""
    calls: list[float] = []

    def request() -> int:
        calls.append(clock.now - 1024)
        return clock.request(4)()

    result = closed_loop(repeat(request), concurrency=1, duration=10, warm_up=10)
    assert calls == [0, 4, 8, 12, 16]
    assert (list(result.latencies), result.seconds, result.images, result.pace) == ([4, 4], 10, 4, None)


def test_a_closed_loop_ends_with_its_requests(clock: Sender) -> None:
    """Without a duration."""
    result = closed_loop([clock.request(seconds) for seconds in (1, 2, 3)], concurrency=1)
    assert (list(result.latencies), result.seconds) == ([1, 2, 3], 6)


def test_a_dead_server_is_no_busy_loop(clock: Sender) -> None:
    """A hundred errors a second and sender; those of the warm-up do not count."""
    result = closed_loop(repeat(clock.request(0, "UNAVAILABLE")), concurrency=1, duration=1, warm_up=1)
    assert 99 <= result.errors["UNAVAILABLE"] <= 101
    assert (list(result.latencies), result.images) == ([], 0)


def test_latency_counts_from_when_a_request_was_due(clock: Sender) -> None:
    """A server that stalls for five seconds once makes those wait that are due meanwhile, one second less each.

    Counted from when it was sent, each of them would have taken a tenth of a second.
    """
    requests = [clock.request(seconds) for seconds in (0.1, 5.1, *[0.1] * 8)]
    result = open_loop(zip(constant(1), requests, strict=False), concurrency=1)
    assert list(result.latencies) == pytest.approx([0.1, 5.1, 4.2, 3.3, 2.4, 1.5, 0.6, 0.1, 0.1, 0.1])
    assert result.pace
    assert (result.pace.due, result.pace.unsent, result.pace.queued) == (10, 0, 5)
    assert result.pace.longest_wait == pytest.approx(4.1)
    assert result.pace.rate_due == result.pace.rate_reached == 1
    assert result.pace.is_kept


def test_what_was_due_and_not_sent_at_the_end_is_counted(clock: Sender) -> None:
    """Three senders' worth of requests to one: the loop ends with its duration, and the answer that is under way."""
    result = open_loop(zip(constant(3), repeat(clock.request(1)), strict=False), concurrency=1, duration=10)
    assert list(result.latencies) == pytest.approx([1 + 2 * count / 3 for count in range(10)])
    assert result.seconds == pytest.approx(10 + 1 / 3)
    assert result.pace
    assert (result.pace.due, result.pace.unsent) == (30, 20)
    assert (result.pace.rate_due, result.pace.rate_reached) == (3, 1)
    assert not result.pace.is_kept


def test_the_seconds_of_an_open_loop_are_its_duration(clock: Sender) -> None:
    """Also where the last request of it is due, and answered, before the end."""
    result = open_loop(zip(constant(0.3), repeat(clock.request(0)), strict=False), concurrency=1, duration=10)
    assert (len(result.latencies), result.seconds) == (3, 10)
    assert result.pace
    assert (result.pace.rate_due, result.pace.rate_reached) == (0.3, 0.3)


def test_a_schedule_that_takes_longer_than_it_should_is_told(clock: Sender) -> None:
    """All are sent, at a third of the rate."""
    requests = [clock.request(1)] * 30
    pace = open_loop(zip(constant(3), requests, strict=False), concurrency=1).pace
    assert pace
    assert (pace.due, pace.unsent, pace.rate_due) == (30, 0, 3)
    assert pace.rate_reached == pytest.approx(30 / 29.333, rel=1e-3)
    assert not pace.is_kept


def test_the_warm_up_of_an_open_loop_leaves_no_queue(clock: Sender) -> None:
    """What was due in it and not sent is passed over; what is due at its very end belongs to it."""
    dues: list[float] = []

    def request(due: float) -> int:
        dues.append(due)
        return clock.request(0.1 if clock.now < 1005 else 0.5)()

    arrivals = ((due, lambda due=due: request(due)) for due in constant(1))
    result = open_loop(arrivals, concurrency=1, duration=3, warm_up=5)
    assert dues == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(result.latencies) == pytest.approx([0.5] * 3)
    slow = zip(constant(4), repeat(clock.request(1)), strict=False)
    result = open_loop(slow, concurrency=1, duration=2, warm_up=5)
    assert result.pace
    assert list(result.latencies) == pytest.approx([1, 1.75])
    assert (result.pace.due, result.pace.unsent) == (8, 6)


def test_a_rate_far_above_what_can_be_sent_ends_with_its_duration() -> None:
    """The greatest that there is."""

    def request() -> int:
        time.sleep(0.01)
        return 1

    begin = time.perf_counter()
    schedule = zip(constant(MAX_RATE), repeat(request), strict=False)
    result = open_loop(schedule, concurrency=2, duration=0.3, warm_up=0.1)
    assert time.perf_counter() - begin < 3
    assert result.pace
    assert result.pace.due == 0.3 * MAX_RATE
    assert result.pace.unsent == result.pace.due - len(result.latencies)
    assert 0 < len(result.latencies) <= 62
    assert result.pace.queued == len(result.latencies)


def test_senders_that_are_free_send_while_others_wait() -> None:
    """Two requests that need each other, due at the same time."""
    barrier = threading.Barrier(2, timeout=5)
    result = open_loop([(0.01, lambda: barrier.wait() + 1)] * 2, concurrency=2)
    assert (len(result.latencies), result.images) == (2, 3)


def test_errors_keep_to_the_schedule(clock: Sender) -> None:
    """No pause after them, as a closed loop has: the next request is due when it is due."""
    result = open_loop(
        zip(constant(200), repeat(clock.request(0, "UNAVAILABLE")), strict=False), concurrency=1, duration=1
    )
    assert result.errors == {"UNAVAILABLE": 200}
    assert result.pace
    assert (result.pace.queued, result.pace.unsent) == (0, 0)
    assert result.pace.longest_wait == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_an_error_that_is_not_the_servers_ends_the_loop(*, is_open: bool) -> None:
    """It is raised where the loop was called, and others do not wait for what is due in an hour."""

    def request() -> int:
        raise ClientUsageError("cannot be sent")

    run = partial(open_loop, [(0.01, request), (3600, request)]) if is_open else partial(closed_loop, repeat(request))
    with pytest.raises(ClientUsageError, match="cannot be sent"):
        run(concurrency=2)


class _Interrupt:
    """Arrivals; Ctrl-C comes while the third is taken, as it does in the main thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self._taken = threading.Event()
        self._count = count
        monkeypatch.setattr(threading.Thread, "join", lambda _thread: self._interrupt())

    def _interrupt(self) -> None:
        assert self._taken.wait(5)
        raise KeyboardInterrupt

    def arrivals(self) -> Iterator[tuple[float, Callable[[], int]]]:
        for _ in range(self._count):
            yield 0.001, lambda: 1
        self._taken.set()
        yield 3600, lambda: 1


def test_ctrl_c_gives_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not due yet is neither waited for nor missed; KeyboardInterrupt where nothing was measured."""
    result = open_loop(_Interrupt(monkeypatch, 3).arrivals(), concurrency=1)
    assert len(result.latencies) == 3
    assert result.pace
    assert (result.pace.due, result.pace.unsent) == (3, 0)
    with pytest.raises(KeyboardInterrupt):
        open_loop(_Interrupt(monkeypatch, 0).arrivals(), concurrency=1)


def test_requests_that_come_by_chance_have_the_rate_on_average() -> None:
    """Their pauses spread as exponential ones do, by as much as they last; every time the same."""
    dues = list(islice(poisson(50), 10_000))
    assert dues == list(islice(poisson(50), 10_000)) == sorted(dues)
    assert dues[:3] == pytest.approx([0.037212, 0.065585, 0.076499], abs=1e-6)
    assert dues[-1] == pytest.approx(200, rel=0.03)
    pauses = [later - earlier for earlier, later in itertools.pairwise(dues)]
    assert math.sqrt(sum((pause - 0.02) ** 2 for pause in pauses) / len(pauses)) == pytest.approx(0.02, rel=0.05)
    assert list(islice(constant(4), 4)) == [0.25, 0.5, 0.75, 1]


def test_errors_are_counted_by_code() -> None:
    """In threads, and real time."""
    errors = iter([*[server_error("UNAVAILABLE", "died")] * 5, *[server_error("NOT_FOUND", "gone")] * 3])

    def request() -> int:
        if error := next(errors, None):
            raise error
        return 1

    result = closed_loop([request] * 10, concurrency=2)
    assert (result.errors, len(result.latencies)) == ({"UNAVAILABLE": 5, "NOT_FOUND": 3}, 2)
    assert isinstance(server_error("NOT_FOUND", ""), ServerError)


def test_a_loop_takes_a_millisecond_at_least(clock: Sender) -> None:
    """What took no time has a rate all the same."""
    assert closed_loop([clock.request(0)], concurrency=1).seconds == 0.001
    result = open_loop([(0.0005, clock.request(0))], concurrency=1)
    assert result.seconds == 0.001
    assert result.pace
    assert (result.pace.due_seconds, result.pace.sent_seconds, result.pace.rate_due) == (0.001, 0.001, 1000)
    nothing = closed_loop([], concurrency=2)
    assert (nothing.seconds, list(nothing.latencies), nothing.images, nothing.pace) == (0.001, [], 0, None)


def test_a_request_without_an_answer_does_not_keep_the_program(clock: Sender) -> None:
    """Its thread ends with it."""
    daemons: list[bool] = []

    def request() -> int:
        daemons.append(threading.current_thread().daemon)
        return 1

    closed_loop([request] * 3, concurrency=2)
    assert daemons == [True] * 3


def test_what_is_due_at_the_very_end_is_sent(clock: Sender) -> None:
    """And what is due at the end of the warm-up does not count; a request that is due now is not queued."""
    result = open_loop(((due, clock.request(0)) for due in (1, 2, 3, 4, 5)), concurrency=1, duration=2, warm_up=2)
    assert result.pace
    assert (result.pace.due, result.pace.unsent, result.pace.queued) == (2, 0, 0)
    assert (list(result.latencies), result.images, result.seconds) == ([0, 0], 4, 2)
    late = open_loop(((due, clock.request(0.5)) for due in (1.5, 2, 2.5, 3)), concurrency=1, duration=2, warm_up=1)
    assert late.pace
    assert (late.pace.due, late.pace.unsent, late.pace.queued) == (4, 1, 0)
