"""Attacks on a live server, all of one kind: a generator that attacks a little at each step.

A step gives the seconds until the next one, and waits for nothing itself; closing the generator ends the attack. So one
attack runs alone in a test, several run in turns in a random composition, and in the soak they run for hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

Address: TypeAlias = tuple[str, int]
Steps: TypeAlias = Iterator[float]


class Target(NamedTuple):
    """The ports of a server, which serves half_plus_two, big_answers and tf1."""

    grpc: Address
    rest: Address


Attack: TypeAlias = Callable[[Target], Steps]
# By name; the docstring's first line says what it is.
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Registers an attack."""
    ATTACKS[function.__name__] = function
    return function


def address(text: str) -> Address:
    """The parts of HOST:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


# Importing them registers them.
from tests.hostile.attacks import bodies, connections, grpc_calls, grpc_frames, requests  # noqa: E402

__all__ = ["ATTACKS", "Address", "Attack", "Steps", "Target", "address", "bodies", "connections"]
__all__ += ["grpc_calls", "grpc_frames", "requests"]
