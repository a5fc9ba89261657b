"""The budget of bytes: what fits, what is refused, and who gives way."""

from __future__ import annotations

import pytest

from serving.embedded.admission.budget import Budget, Holding
from serving.errors import DeadlineExceeded, ResourceExhausted, ServingError

MiB = 2**20


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Now, in seconds."""
        return self.now


def holding(errors: list[ServingError] | None = None) -> Holding:
    """A holding that tells `errors` when it is given up."""
    return Holding((errors if errors is not None else []).append)


def test_the_last_byte_of_the_budget_is_given_and_one_more_is_refused_with_the_flag_in_the_text() -> None:
    """A charge that fills the budget exactly is taken; a byte beyond it is not, and takes nothing."""
    budget = Budget(100, Clock())
    budget.charge(100)
    with pytest.raises(ResourceExhausted, match=r"100 bytes .* --max_bytes_in_flight is 100"):
        budget.charge(1)
    budget.refund(100)
    budget.charge(100)
    assert budget.used == 100


def test_large_requests_leave_a_tenth_to_small_ones() -> None:
    """However many there are."""
    budget = Budget(MiB, Clock())
    budget.charge(MiB // 2)
    with pytest.raises(ResourceExhausted):
        budget.charge(MiB // 2)
    budget.charge(MiB // 10 * 4)
    budget.charge(2**16)


@pytest.mark.parametrize(
    ("size", "beside", "fits"),
    [
        (2**16, MiB - 2**16, True),
        (2**16, MiB - 2**16 + 1, False),
        (2**16 + 1, 943_718 - 2**16 - 1, True),
        (2**16 + 1, 943_718 - 2**16, False),
        (943_718, 0, True),
        (943_719, 0, False),
    ],
)
def test_64_kib_are_small_and_what_is_larger_has_nine_tenths(size: int, beside: int, fits: bool) -> None:
    """To the byte; what is refused takes nothing."""
    budget = Budget(MiB, Clock())
    budget.take(beside)
    if fits:
        budget.charge(size)
        assert budget.used == beside + size
        return
    with pytest.raises(ResourceExhausted):
        budget.charge(size)
    assert budget.used == beside


def test_what_waits_for_peers_may_fill_nine_tenths_of_the_whole() -> None:
    """With what the server works on; the text says how much that is, the flag, and what to do."""
    budget = Budget(100, Clock())
    budget.charge(50)
    budget.hold(holding(), 40)
    with pytest.raises(ResourceExhausted) as raised:
        budget.hold(holding(), 1)
    assert str(raised.value) == (
        "90 bytes of requests and answers are under way, and --max_bytes_in_flight is 100: try again, or send less at "
        "a time"
    )
    assert budget.used == 90


@pytest.mark.parametrize("size", [0, -10])
def test_a_holding_that_does_not_grow_is_never_refused(size: int) -> None:
    """However much more than the budget is used."""
    budget, mine = Budget(100, Clock()), holding()
    budget.hold(mine, 50)
    budget.take(100)
    budget.hold(mine, size)
    assert (mine.size, budget.used) == (50 + size, 150 + size)


def test_the_bytes_of_a_holding_that_ended_are_there_for_others() -> None:
    """All three quarters of them, again and again."""
    budget = Budget(100, Clock())
    for end in (budget.release, budget.end):
        mine = holding()
        budget.hold(mine, 75)
        end(mine)
        assert (mine.size, budget.used) == (0, 0)
    budget.hold(holding(), 75)


def test_what_can_be_gone_without_has_half_of_the_budget() -> None:
    """To the byte, with all that is used; all of it where there is no limit."""
    budget = Budget(100, Clock())
    budget.charge(20)
    assert budget.take_spare(30)
    assert not budget.take_spare(1)
    assert budget.used == 50
    unlimited = Budget(0, Clock())
    assert unlimited.take_spare(2**60)
    assert unlimited.used == 2**60


def test_a_peer_gives_way_after_a_quarter_of_a_second() -> None:
    """Not before; it is told why, and has its bytes no more."""
    clock, errors = Clock(), list[ServingError]()
    budget, stalled = Budget(100, clock), holding(errors)
    budget.hold(stalled, 60)
    clock.now = 0.249
    with pytest.raises(ResourceExhausted):
        budget.charge(60)
    assert (errors, budget.used) == ([], 60)
    clock.now = 0.25
    budget.charge(60)
    assert [(type(error), str(error)) for error in errors] == [
        (ResourceExhausted, "The message came to a halt, and its place was needed for others")
    ]
    assert (stalled.size, budget.used) == (0, 60)


def test_peers_give_way_to_one_that_sends_when_too_much_waits_for_peers() -> None:
    """As many as have to, though the server works on nothing."""
    clock, errors = Clock(), list[ServingError]()
    budget = Budget(100, clock)
    for _ in range(3):
        budget.hold(holding(errors), 25)
    clock.now = 1.0
    mine = holding()
    budget.hold(mine, 25)
    assert (len(errors), mine.size, budget.used) == (1, 25, 75)
    budget.hold(mine, 26)
    assert (len(errors), mine.size, budget.used) == (3, 51, 51)


def test_stalled_messages_end_a_hundred_at_a_time() -> None:
    """Each is told the flag; whether to come again is said."""
    clock, errors, young = Clock(), list[ServingError](), list[ServingError]()
    budget = Budget(0, clock)
    for _ in range(101):
        budget.hold(holding(errors), 1)
    clock.now = 0.5
    budget.hold(holding(young), 1)
    clock.now = 2.49
    assert not budget.end_stalled(2.5)
    assert not errors
    clock.now = 2.5
    assert budget.end_stalled(2.5)
    assert len(errors) == 100
    assert not budget.end_stalled(2.5)
    assert (len(errors), len(young), budget.used) == (101, 0, 1)
    assert {(type(error), str(error)) for error in errors} == {
        (DeadlineExceeded, "Nothing was sent, or read, for --stall_timeout_seconds=2.5")
    }


def test_a_budget_of_zero_is_none() -> None:
    """0 is no limit, as for the other limits."""
    budget = Budget(0, Clock())
    budget.charge(2**60)
    budget.hold(holding(), 2**60)


def test_what_waits_for_peers_leaves_a_quarter_to_requests_that_are_there() -> None:
    """Holdings may fill three quarters of the budget."""
    budget = Budget(100, Clock())
    budget.hold(holding(), 75)
    with pytest.raises(ResourceExhausted):
        budget.hold(holding(), 1)
    budget.charge(25)


def test_the_peer_that_has_been_silent_for_longest_gives_way() -> None:
    """Of two stalled messages the older goes; one that moved a moment ago never does."""
    clock, old, young = Clock(), list[ServingError](), list[ServingError]()
    budget = Budget(100, clock)
    budget.hold(holding(old), 40)
    clock.now = 1.0
    budget.hold(holding(young), 30)
    budget.charge(50)
    assert len(old) == 1
    assert not young
    assert budget.used == 80
    with pytest.raises(ResourceExhausted):
        budget.charge(50)
    assert not young


def test_thousands_give_way_in_turns() -> None:
    """Whoever needs the bytes of more than that is refused meanwhile."""
    clock = Clock()
    budget = Budget(10_000, clock)
    for _ in range(5000):
        budget.hold(holding(), 1)
    clock.now = 1.0
    with pytest.raises(ResourceExhausted, match="try again"):
        budget.charge(9000)
    assert budget.used == 3000
    budget.charge(9000)
    assert budget.used == 10_000


def test_a_message_that_grows_is_not_its_own_victim() -> None:
    """The one that asks for more is refused rather than given up."""
    clock, errors = Clock(), list[ServingError]()
    budget = Budget(100, clock)
    mine = holding(errors)
    budget.hold(mine, 75)
    clock.now = 9.0
    with pytest.raises(ResourceExhausted):
        budget.hold(mine, 1)
    assert not errors
    budget.release(mine)
    assert budget.used == 0


def test_a_holding_that_is_released_twice_gives_its_bytes_back_once() -> None:
    """Releasing is safe to repeat."""
    budget = Budget(MiB, Clock())
    mine = holding()
    budget.hold(mine, 100)
    budget.hold(mine, -40)
    assert budget.used == 60
    budget.release(mine)
    budget.release(mine)
    assert budget.used == 0
