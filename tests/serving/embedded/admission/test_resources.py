"""What a process may hold by default."""

from __future__ import annotations

from serving.embedded.admission.resources import default_budget, memory_limit, resident_bytes

MiB = 2**20


def test_the_budget_is_a_quarter_of_what_is_left() -> None:
    """What this process holds is not."""
    expected = (memory_limit() - resident_bytes()) / 4
    assert abs(default_budget(1) - expected) < MiB


def test_the_budget_is_never_below_what_a_large_request_takes() -> None:
    """However many processes share the memory."""
    assert default_budget(memory_limit() // (128 * MiB)) == 32 * MiB
