"""What is read from a server's log: messages, a wrong flag, versions that cannot be loaded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.launch.log import is_about_flags, last_line, load_failures, without_prefix, wrong_flag


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2026-01-02 03:04:05.123456: I external/x.cc:12] text", "text"),
        ("2026-01-02 03:04:05,123 text", "text"),
        ("2026-01-02 03:04:05: text", "text"),
        ("E0102 03:04:05.123456   17 main.cc:1] text", "text"),
        ("text 2026-01-02 03:04:05", "text 2026-01-02 03:04:05"),
        ("X0102 main.cc:1] text", "X0102 main.cc:1] text"),
    ],
)
def test_the_message_of_a_line(line: str, message: str) -> None:
    """Without TensorFlow's, absl's or the embedded server's time, level and source."""
    assert without_prefix(line) == message
    assert last_line(["first", line]) == message


def test_a_program_that_printed_nothing() -> None:
    """Is told so."""
    assert last_line([]) == "it printed nothing"


@pytest.mark.parametrize(
    ("lines", "complete", "on_the_way"),
    [
        ([], None, None),
        (["loading"], None, None),
        (
            ["first", "Error: --prot is no flag; --help lists the flags"],
            "Error: --prot is no flag",
            "Error: --prot is no flag",
        ),
        (["usage: server", "  --port"], "it printed nothing", None),
        (["2026-01-02 03:04:05: bad port", "usage: server", "  --port"], "bad port", None),
        (
            ["E0102 main.cc:1] unknown argument: --bogus", "other", "usage: server"],
            "unknown argument: --bogus",
            "unknown argument: --bogus",
        ),
        (
            ["Couldn't interpret value x for flag port.", "usage: server"],
            "Couldn't interpret value x for flag port.",
            "Couldn't interpret value x for flag port.",
        ),
        (["unknown argument: --bogus"], None, None),
        (["no usage: at its beginning"], None, None),
    ],
)
def test_why_a_server_does_not_take_its_flags(
    lines: Sequence[str], complete: str | None, on_the_way: str | None
) -> None:
    """By its own words; the line before its usage counts once the log is complete."""
    assert wrong_flag(lines, ended=True) == complete
    assert wrong_flag(lines, ended=False) == on_the_way


def test_where_the_answer_to_a_wrong_flag_begins() -> None:
    """Nothing else is left out of what is shown."""
    assert is_about_flags("x; --help lists the flags of it")
    assert not is_about_flags("the usage: of it")
    assert not is_about_flags("an unknown argument: --bogus")


def test_versions_that_could_not_be_loaded() -> None:
    """Of this model, each with its last reason; names may have spaces."""
    lines = [
        "2026-01-02 03:04:05: W retrier.cc:33] Loading servable: {name: m version: 1} failed: NOT_FOUND: first",
        "Loading servable: {name: m version: 1} failed: NOT_FOUND: second",
        "Loading servable: {name: m version: 12} failed: x",
        "Loading servable: {name: a model version: 3} failed: y",
        "Loading servable: {name: m version: 4}",
    ]
    assert load_failures(lines, "m") == {1: "NOT_FOUND: second", 12: "x"}
    assert load_failures(lines, "a model") == {3: "y"}
