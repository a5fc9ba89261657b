"""What a process may hold by default."""

from __future__ import annotations

from serving.embedded.admission.resources import default_budget, memory_limit, resident_bytes, tls_connections

MiB = 2**20


def test_the_budget_is_an_eighth_of_what_is_left() -> None:
    """What this process holds is not."""
    expected = (memory_limit() - resident_bytes()) / 8
    assert abs(default_budget(1) - expected) < MiB


def test_the_budget_is_never_below_what_a_large_request_takes() -> None:
    """However many processes share the memory."""
    assert default_budget(memory_limit() // (128 * MiB)) == 32 * MiB


def test_connections_in_tls_have_a_quarter_for_their_buffers() -> None:
    """280 KiB each: 117 of them in the 32 MiB that are never gone below."""
    assert tls_connections(memory_limit() // (128 * MiB)) == 117
    assert abs(tls_connections(1) - 2 * default_budget(1) / (280 * 1024)) < 10
