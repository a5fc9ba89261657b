"""Attacks in random company. HOSTILE_SECONDS is the time, HOSTILE_SEED repeats a run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.grounds import HELD, Grounds, grounds

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "8"))
ROUND_SECONDS = 3.0
# What random company has found, with what it did then.
FOUND = {
    "it waited 1.6 s and kept 271 MiB": ("packed_lists", "dear_messages", "endless_headers"),
    "memory without an end": ("large_bodies_that_stop", "unread_answers"),
    "27,000 calls gave way in one turn": ("many_streams", "dear_json"),
    "more than 1 GiB": ("large_batches", "large_tensors"),
    "4,200 sockets waited for the interpreter, 1.1 s": ("dear_messages", "packed_messages", "bodies_that_never_come"),
    "4,000 waited to be accepted, 0.7 s": ("bodies_that_never_come", "large_bodies_that_stop", "reflections"),
}


@pytest.mark.alone
@pytest.mark.parametrize("what", FOUND)
def test_compositions_that_were_found(what: str, hostile_grounds: Callable[[], Grounds]) -> None:
    """They bring nothing down any more, and nobody waits for long."""
    cost = hostile_grounds().attacked(FOUND[what], ROUND_SECONDS, random.Random(0))
    assert not cost.faults(), cost


@pytest.mark.alone
def test_a_composition_on_litert(lite_toys: Path, tmp_path: Path) -> None:
    """What takes most of a runtime, on one with half the memory."""
    with grounds(lite_toys, tmp_path, "litert") as ground:
        cost = ground.attacked(("large_batches", "large_tensors", "many_examples"), ROUND_SECONDS, random.Random(0))
    assert not cost.faults(), cost


@pytest.mark.alone
def test_random_compositions(hostile_grounds: Callable[[], Grounds]) -> None:
    """Two to four attacks at a time bring nothing down, and nobody waits for long."""
    seed = int(os.environ.get("HOSTILE_SEED", time.time_ns() % 10**6))
    order = random.Random(seed)
    print(f"HOSTILE_SEED={seed}")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        names = order.sample(HELD, order.randint(2, 4))
        print("+".join(names))
        cost = hostile_grounds().attacked(names, ROUND_SECONDS, order)
        assert not cost.faults(), (seed, names, cost)
