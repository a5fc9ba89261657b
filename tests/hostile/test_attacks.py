"""No attack makes an innocent caller wait for more than half a second, or takes more memory than the server has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hostile.grounds import HELD, Cost, Grounds

pytestmark = pytest.mark.alone

SECONDS = 2.0


Note = Callable[[str, Cost, Grounds], None]


def test_innocent_callers_alone(hostile_grounds: Callable[[], Grounds], note_cost: Note) -> None:
    """Without an attack nobody waits: the measure itself costs nothing."""
    ground = hostile_grounds()
    cost = ground.attacked((), SECONDS)
    note_cost("no_attack", cost, ground)
    assert not cost.faults()


@pytest.mark.parametrize("name", HELD)
def test_attack(name: str, hostile_grounds: Callable[[], Grounds], note_cost: Note) -> None:
    """Innocent callers on both ports get right answers in time, and the memory comes back."""
    ground = hostile_grounds()
    cost = ground.attacked((name,), SECONDS)
    note_cost(name, cost, ground)
    assert not cost.faults(), cost
