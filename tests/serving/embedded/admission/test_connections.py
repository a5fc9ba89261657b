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
        for _ in range(49):
            connections.enter("10.0.0.1", lambda: None)
        now[0] = 9.9
        connections.enter("10.0.0.2", lambda: None)
        now[0] = 10.0
        connections.enter("10.0.0.3", lambda: None)
        now[0] = 19.9
        connections.enter("10.0.0.4", lambda: None)
        now[0] = 20.0
        connections.enter("10.0.0.5", lambda: None)
    rest = "1 are open (--max_connections=1, --max_connections_per_address=0)"
    assert [record.getMessage() for record in caplog.records] == [
        f"1 connections turned away, the last of 10.0.0.1: {rest}",
        f"50 connections turned away, the last of 10.0.0.3: {rest}",
        f"2 connections turned away, the last of 10.0.0.5: {rest}",
    ]


def test_the_log_says_whose_connection_had_to_go_for_another(caplog: pytest.LogCaptureFixture) -> None:
    """With the limits of all and of each address."""
    connections, closed = Connections(2, 5, lambda: 0.0), list[str]()
    entered(connections, "a", closed, "one")
    entered(connections, "a", closed, "two")
    with caplog.at_level(logging.WARNING):
        entered(connections, "b", closed, "three")
    assert closed == ["one"]
    assert [record.getMessage() for record in caplog.records] == [
        "1 connections turned away, the last of a: 2 are open (--max_connections=2, --max_connections_per_address=5)"
    ]


@pytest.mark.parametrize(("total", "each"), [(1, 0), (0, 1)])
def test_a_limit_of_one_is_for_one_and_zero_is_none(total: int, each: int) -> None:
    """Of all connections, and of one address."""
    connections, closed = Connections(total, each, time.monotonic), list[str]()
    entered(connections, "a", closed, "one")
    entered(connections, "a", closed, "two")
    assert closed == ["one"]
    entered(connections, "b", closed, "three")
    assert closed == (["one", "two"] if total else ["one"])


def test_of_idle_connections_the_one_that_rests_for_longest_goes() -> None:
    """Each time it has asked something it is the last again."""
    connections, closed = Connections(2, 0, time.monotonic), list[str]()
    seats = [entered(connections, "a", closed, name) for name in ("one", "two")]
    for seat in (seats[0], seats[1], seats[0]):
        connections.work(seat)
        connections.rest(seat)
    entered(connections, "b", closed, "stranger")
    assert closed == ["two"]
    entered(connections, "b", closed, "second stranger")
    assert closed == ["two", "stranger"]


def test_an_address_at_its_limit_whose_connections_are_busy_displaces_nobody() -> None:
    """Though others are idle."""
    connections, closed = Connections(10, 1, time.monotonic), list[str]()
    connections.work(entered(connections, "a", closed, "busy"))
    entered(connections, "b", closed, "other")
    assert connections.enter("a", lambda: None) is None
    assert (closed, len(connections)) == ([], 2)
