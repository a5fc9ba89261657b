"""The connections of both ports: who may stay when there are too many."""

from __future__ import annotations

import logging
import time

import pytest

from serving.embedded.admission.connections import Connections, Seat


def entered(connections: Connections, address: str, closed: list[str], name: str) -> Seat:
    """A connection that was let in, and adds its name to `closed` when it has to go."""
    seat = connections.enter(address, lambda: closed.append(name))
    assert seat is not None
    return seat


def test_a_newcomer_takes_the_place_of_the_stranger_that_has_been_silent_for_longest() -> None:
    """Those who never asked anything go before those who did."""
    connections, closed = Connections(3, 0, time.monotonic), list[str]()
    known = entered(connections, "a", closed, "known")
    connections.work(known)
    connections.rest(known)
    entered(connections, "a", closed, "first stranger")
    entered(connections, "b", closed, "second stranger")
    entered(connections, "c", closed, "newcomer")
    assert closed == ["first stranger"]
    assert len(connections) == 3


def test_when_all_are_busy_the_newcomer_is_turned_away() -> None:
    """A connection with a request under way is never closed for another."""
    connections, closed = Connections(1, 0, time.monotonic), list[str]()
    busy = entered(connections, "a", closed, "busy")
    connections.work(busy)
    assert connections.enter("b", lambda: None) is None
    connections.rest(busy)
    entered(connections, "b", closed, "newcomer")
    assert closed == ["busy"]


def test_an_address_at_its_limit_displaces_only_its_own() -> None:
    """The limit of each address costs no other address anything."""
    connections, closed = Connections(10, 2, time.monotonic), list[str]()
    entered(connections, "b", closed, "other")
    entered(connections, "a", closed, "one")
    entered(connections, "a", closed, "two")
    entered(connections, "a", closed, "three")
    assert closed == ["one"]


def test_an_address_keeps_its_count_while_one_of_its_connections_is_left() -> None:
    """The limit counts those that are there; nothing is kept of an address without any."""
    connections, closed = Connections(10, 2, time.monotonic), list[str]()
    one = entered(connections, "a", closed, "one")
    two = entered(connections, "a", closed, "two")
    connections.leave(one)
    entered(connections, "a", closed, "three")
    assert closed == []
    entered(connections, "a", closed, "four")
    assert closed == ["two"]
    connections.leave(two)
    assert dict(connections._addresses) == {"a": 2}


def test_a_place_is_free_again_when_its_connection_has_gone() -> None:
    """Leaving twice frees one place; rest after it none."""
    connections, closed = Connections(1, 1, time.monotonic), list[str]()
    seat = entered(connections, "a", closed, "one")
    connections.work(seat)
    connections.leave(seat)
    connections.leave(seat)
    connections.rest(seat)
    entered(connections, "a", closed, "two")
    assert not closed
    assert len(connections) == 1


def test_the_log_says_how_many_were_turned_away_but_not_for_each(caplog: pytest.LogCaptureFixture) -> None:
    """One line in ten seconds, with the number of all since the last."""
    now = [0.0]
    connections = Connections(1, 0, lambda: now[0])
    seat = connections.enter("a", lambda: None)
    assert seat is not None
    connections.work(seat)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            connections.enter("10.0.0.1", lambda: None)
        now[0] = 10.0
        connections.enter("10.0.0.1", lambda: None)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("1 connections turned away, the last of 10.0.0.1")
    assert second.startswith("50 connections turned away")
