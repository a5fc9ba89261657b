"""How far a job is, by a simulated clock."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from scoring.progress import Progress


class Terminal(io.StringIO):
    """One that is looked at."""

    def isatty(self) -> bool:
        """It is a terminal."""
        return True


@pytest.fixture
def clock() -> SimpleNamespace:
    """Stands at `now`."""
    return SimpleNamespace(now=100.0)


def progress_of(kind: str, stream: io.StringIO, clock: SimpleNamespace, total: int = 1000) -> Progress:
    """The progress of a job of a thousand rows."""
    return Progress(kind, total, stream, lambda: clock.now)


def test_a_terminal_has_a_line_that_moves(clock: SimpleNamespace) -> None:
    """Five times a second at most, from the first rows on; the end is shown whatever the time, and ends the line."""
    stream = Terminal()
    progress = progress_of("bar", stream, clock)
    for now, rows in ((101.0, 100), (101.19, 100), (101.2, 100), (101.3, 200), (101.45, 100)):
        clock.now = now
        progress.add(rows)
    clock.now = 102.0
    progress.end()
    assert stream.getvalue() == (
        "\r\x1b[K100 of 1,000 rows (10%), 100/s, 0:09 left"
        "\r\x1b[K300 of 1,000 rows (30%), 250/s, 0:03 left"
        "\r\x1b[K600 of 1,000 rows (60%), 414/s, 0:01 left"
        "\r\x1b[K600 of 1,000 rows (60%), 300/s, 0:01 left\n"
    )


def test_json_is_a_line_a_second(clock: SimpleNamespace) -> None:
    """On a terminal or not; the end is one more."""
    stream = io.StringIO()
    progress = progress_of("json", stream, clock)
    for now in (100.5, 101.4, 101.5, 102.4):
        clock.now = now
        progress.add(100)
    progress.end()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"rows": 100, "total": 1000, "rows_per_second": 200.0, "seconds_left": 4.5},
        {"rows": 300, "total": 1000, "rows_per_second": 200.0, "seconds_left": 3.5},
        {"rows": 400, "total": 1000, "rows_per_second": 166.7, "seconds_left": 3.6},
    ]
    assert stream.getvalue().endswith("}\n")


@pytest.mark.parametrize(("kind", "stream"), [("bar", io.StringIO()), ("none", Terminal()), ("none", io.StringIO())])
def test_nobody_is_told_who_does_not_look(kind: str, stream: io.StringIO, clock: SimpleNamespace) -> None:
    """A bar is for terminals, and none for nobody; rows are counted all the same."""
    progress = progress_of(kind, stream, clock)
    clock.now = 105.0
    progress.add(500)
    progress.end()
    assert stream.getvalue() == ""
    assert (progress.rows, progress.rate, progress.seconds) == (500, 100.0, 5.0)


def test_rows_of_an_earlier_run_are_done_but_not_quick(clock: SimpleNamespace) -> None:
    """They count for how far it is; the time counts from where it begins."""
    progress = progress_of("none", io.StringIO(), clock, total=1003)
    progress.skip(200)
    progress.skip(100)
    clock.now = 150.0
    progress.begin()
    assert progress.facts() == {"rows": 300, "total": 1003, "rows_per_second": 0.0, "seconds_left": None}
    clock.now = 152.0
    progress.add(200)
    assert progress.facts() == {"rows": 500, "total": 1003, "rows_per_second": 100.0, "seconds_left": 5.0}


def test_a_job_that_takes_no_time_has_a_rate(clock: SimpleNamespace) -> None:
    """And one with more rows than were counted has no time left, rather than less than none."""
    progress = progress_of("none", io.StringIO(), clock, total=3)
    progress.add(4)
    assert progress.rate == pytest.approx(4e6)
    assert progress.facts()["seconds_left"] == 0.0


def test_without_rows_there_is_no_share(clock: SimpleNamespace) -> None:
    """It is none of none."""
    stream = Terminal()
    progress_of("bar", stream, clock, total=0).end()
    assert stream.getvalue() == "\r\x1b[K0 of 0 rows (0%), 0/s\n"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (36_610, "10:10:10"),
    ],
)
def test_times_have_hours_when_there_are_any(seconds: float, told: str, clock: SimpleNamespace) -> None:
    """Minutes and seconds have two digits behind another."""
    stream = Terminal()
    progress = progress_of("bar", stream, clock, total=2_000_000)
    progress.skip(1_000_000)
    clock.now += seconds
    progress.add(500_000)
    assert stream.getvalue().endswith(f", {told} left")


def test_it_is_told_on_stderr_by_the_real_clock(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless another stream is given."""
    progress = Progress("json", 10)
    progress.add(10)
    progress.end()
    output = capsys.readouterr()
    assert output.out == ""
    assert json.loads(output.err.splitlines()[-1])["rows"] == 10
    assert 0 <= progress.seconds < 60
