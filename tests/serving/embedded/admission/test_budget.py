"""The budget of bytes: what fits, what is refused, and who gives way."""

from __future__ import annotations

import pytest

from serving.embedded.admission.budget import Budget, Holding
from serving.errors import ResourceExhausted, ServingError

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
