"""What is done for memory while the server runs: stalled messages end, freed memory goes back."""

from __future__ import annotations

import asyncio

import pytest

from serving.apis.status import Code
from serving.embedded.admission import upkeep
from serving.embedded.admission.budget import Budget, Holding
from serving.embedded.admission.upkeep import Upkeep
from serving.errors import ServingError

MiB = 2**20


def run(budget: Budget) -> None:
    """Lets the upkeep run for a while."""

    async def wait() -> None:
        keeper = Upkeep(budget, 20.0)
        keeper.start()
        await asyncio.sleep(0.1)
        await keeper.stop()

    asyncio.run(wait())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_SECONDS", 0.001)


def test_all_stalled_holdings_end_and_no_others() -> None:
    """However many there are; each is told the flag."""
    now, errors, young = [0.0], list[ServingError](), list[ServingError]()
    budget = Budget(0, lambda: now[0])
    for _ in range(250):
        budget.hold(Holding(errors.append), 1)
    now[0] = 10.0
    budget.hold(Holding(young.append), 1)
    now[0] = 20.0
    run(budget)
    assert (len(errors), len(young), budget.used) == (250, 0, 1)
    assert errors[0].code is Code.DEADLINE_EXCEEDED
    assert "--stall_timeout_seconds=20" in str(errors[0])


@pytest.mark.parametrize(
    ("grown", "used", "kept", "trims"),
    [(40, 0, 0, 1), (40, 0, 40, 1), (20, 0, 20, 0), (140, 100, 100, 1), (120, 100, 120, 0)],
)
def test_memory_goes_back_once_much_is_kept(grown: int, used: int, kept: int, trims: int) -> None:
    """Once, whether or not it goes back; not for little, and not for what is in use. Sizes in MiB, beyond the start."""
    budget, resident, calls = Budget(0, lambda: 0.0), [500 * MiB], list[int]()

    def trim() -> None:
        calls.append(1)
        resident[0] = (500 + kept) * MiB

    async def grow() -> None:
        keeper = Upkeep(budget, 20.0, trim, lambda: resident[0])
        keeper.start()
        await asyncio.sleep(0)
        budget.take(used * MiB)
        resident[0] += grown * MiB
        await asyncio.sleep(0.1)
        await keeper.stop()

    asyncio.run(grow())
    assert len(calls) == trims


def test_memory_that_is_freed_after_a_busy_look_goes_back_too() -> None:
    """Until there was a look while little was in use."""
    budget, resident, calls = Budget(0, lambda: 0.0), [500 * MiB], list[int]()

    async def go_on() -> None:
        keeper = Upkeep(budget, 20.0, lambda: calls.append(1), lambda: resident[0])
        keeper.start()
        await asyncio.sleep(0)
        budget.take(100 * MiB)
        resident[0] += 250 * MiB
        while not calls:
            await asyncio.sleep(0.001)
        budget.refund(100 * MiB)
        resident[0] -= 100 * MiB
        await asyncio.sleep(0.1)
        await keeper.stop()

    asyncio.run(go_on())
    assert len(calls) == 2
