"""Two latencies measured in turn, by a clock of the test's own."""

from __future__ import annotations

import math
from typing import Any

import pytest

from client.comparison.latency import latencies
from client.comparison.questions import ImageQuestion
from client.comparison.sides import LiveSide
from client.connection import Connection
from client.errors import ClientError, ServerError, server_error
from client.pictures.batch import Batch
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output
from fashion_common.evidence import Latency
from tests.support.clocks import Clock

_QUESTION = ImageQuestion(["a", "b"], Batch("DT_UINT8", bytes(2 * 784)))


class Watch(Clock):
    """Also says who was asked."""

    asked = ""


class Timed(FakeTransport):
    """Takes so many seconds for a request, twice as many for each fifth; a code is an error for all but the fourth."""

    def __init__(self, clock: Watch, name: str, seconds: float, code: str = "") -> None:
        super().__init__()
        self.clock, self.name, self.seconds, self.code = clock, name, seconds, code

    def outputs(self, call: Call) -> dict[str, Output]:
        """After a while."""
        self.clock.asked += self.name
        outputs = super().outputs(call)
        self.clock.now += self.seconds * (2 if len(self.asked) % 5 == 0 else 1)
        if self.code and len(self.asked) != 4:
            raise server_error(self.code, "no")
        return outputs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the loops go by."""
    clock = Watch()
    monkeypatch.setattr("client.load.time", clock)
    return clock


def _measured(*sides: Timed, duration: float) -> list[Latency]:
    baseline, candidate = (LiveSide.of(Connection([side], ModelSpec()), side.name, "") for side in sides)
    return list(latencies(baseline, candidate, _QUESTION, concurrency=1, duration=duration))


def test_each_side_begins_every_second_turn(clock: Watch) -> None:
    """Of 40 ms; each is asked for one image, and its latencies of all turns are one."""
    baseline, candidate = Timed(clock, "b", 1 / 64), Timed(clock, "c", 1 / 32)
    [latency] = _measured(baseline, candidate, duration=0.16)
    # A turn takes two or three requests, of which each fifth takes twice as long.
    assert clock.asked == "bbb" + "cc" + "cc" + "bb" + "bbb" + "c" + "cc" + "bb"
    assert {call.inputs["images"].shape for call in baseline.asked + candidate.asked} == {(1, 28, 28)}
    assert latency == Latency(
        1,
        baseline_p50_ms=1000 / 64,
        baseline_p99_ms=2000 / 64,
        baseline_requests=10,
        candidate_p50_ms=1000 / 32,
        candidate_p99_ms=2000 / 32,
        candidate_requests=7,
        # The medians of the turns: 2, 2 (or 1.33 where one of two took twice as long), ...
        ratio=latency.ratio,
    )
    assert latency.ratio in (1.6666666666666665, 2.0)


@pytest.mark.parametrize(
    ("duration", "turns"), [(0.01, 1), (0.04, 1), (0.05, 2), (0.08, 2), (0.9, 23), (0.96, 24), (0.97, 24), (99, 24)]
)
def test_there_are_two_dozen_turns_where_there_is_time_for_them(clock: Watch, duration: float, turns: int) -> None:
    """A request that begins in a turn is waited for: here one a turn, and the machine's drift is in both sides."""
    baseline, candidate = Timed(clock, "b", 16), Timed(clock, "c", 16)
    [latency] = _measured(baseline, candidate, duration=duration)
    assert (latency.baseline_requests, latency.candidate_requests) == (turns, turns)
    assert clock.asked == ("bc" + "cb") * (turns // 2) + "bc" * (turns % 2)


def test_a_side_that_only_fails_in_a_turn_is_an_error(clock: Watch) -> None:
    """With its code; one that answers too counts by its answers."""
    with pytest.raises(ServerError) as raised:
        _measured(Timed(clock, "b", 1 / 64), Timed(clock, "c", 1 / 64, "UNAVAILABLE"), duration=0.04)
    assert (raised.value.code, raised.value.details) == (
        "UNAVAILABLE",
        "no request was answered while the latency was measured",
    )
    # Errors take 10 ms more each.
    [latency] = _measured(Timed(clock, "b", 1 / 128), Timed(clock, "c", 1 / 1024, "RESOURCE_EXHAUSTED"), duration=0.04)
    assert (latency.candidate_requests, latency.candidate_p50_ms) == (1, 1000 / 1024)


def test_a_turn_without_a_request_on_both_sides_has_no_ratio(clock: Watch) -> None:
    """Where no turn has one, there was no time for it."""

    class Leaping(Watch):
        """Leaps over a whole turn whenever it is looked at."""

        def perf_counter(self) -> float:
            """The time."""
            self.now += 1
            return self.now

    leaping: Any = Leaping()
    clock.perf_counter = leaping.perf_counter  # type: ignore[method-assign]
    with pytest.raises(ClientError) as raised:
        _measured(Timed(clock, "b", 1), Timed(clock, "c", 1), duration=0.06)
    assert str(raised.value) == "no request was answered in a turn of 0.030 s: --duration gives longer"


def test_percentiles_are_of_all_turns(clock: Watch) -> None:
    """By nearest rank, of hundreds of requests that each took another time."""

    class Uneven(Timed):
        """Takes some milliseconds, never the same; keeps them."""

        taken: list[float]

        def outputs(self, call: Call) -> dict[str, Output]:
            """After a while."""
            outputs = FakeTransport.outputs(self, call)
            before = clock.now
            clock.now += (5 + 7 * len(self.asked) % 11) / 1024 + len(self.asked) / 2**20
            self.taken = [*getattr(self, "taken", []), clock.now - before]
            return outputs

    baseline, candidate = Uneven(clock, "b", 0), Uneven(clock, "c", 0)
    [latency] = _measured(baseline, candidate, duration=3)
    for side, count, p50, p99 in (
        (baseline, latency.baseline_requests, latency.baseline_p50_ms, latency.baseline_p99_ms),
        (candidate, latency.candidate_requests, latency.candidate_p50_ms, latency.candidate_p99_ms),
    ):
        assert 200 < count == len(set(side.taken)) < 600
        ordered = sorted(side.taken)
        assert p50 == 1000 * ordered[math.ceil(count * 0.5) - 1]
        assert p99 == 1000 * ordered[math.ceil(count * 0.99) - 1]


def test_the_code_of_most_failures_is_told(clock: Watch) -> None:
    """Of several, as when a server goes away."""

    class Going(Timed):
        """Fails in two ways, one of them most of the time."""

        def outputs(self, call: Call) -> dict[str, Output]:
            """Nothing."""
            super().outputs(call)
            raise server_error("RESOURCE_EXHAUSTED" if len(self.asked) % 3 else "INTERNAL", "no")

    with pytest.raises(ServerError, match=r"^RESOURCE_EXHAUSTED: no request was answered"):
        _measured(Going(clock, "b", 1 / 512), Timed(clock, "c", 1 / 512), duration=0.16)
