"""No attack makes an innocent caller wait for more than half a second, or takes more memory than the server has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hostile.conftest import COSTS
from tests.hostile.grounds import HELD, Grounds

pytestmark = pytest.mark.alone

SECONDS = 2.0


def test_innocent_callers_alone(hostile_grounds: Callable[[], Grounds]) -> None:
    """Without an attack nobody waits: the measure itself costs nothing."""
    cost = COSTS["no_attack"] = hostile_grounds().attacked((), SECONDS)
    assert not cost.faults()


@pytest.mark.parametrize("name", HELD)
def test_attack(name: str, hostile_grounds: Callable[[], Grounds]) -> None:
    """Innocent callers on both ports get right answers in time, and the memory comes back."""
    cost = COSTS[name] = hostile_grounds().attacked((name,), SECONDS)
    assert not cost.faults(), cost
