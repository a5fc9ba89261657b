"""What a process may hold by default."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from serving.embedded.admission import resources
from serving.embedded.admission.resources import (
    bound_allocator,
    default_budget,
    memory_limit,
    raise_descriptor_limit,
    resident_bytes,
    tls_connections,
)

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


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["100663296\n"], 96 * MiB), (["max\n", "100663296\n"], 96 * MiB), (["max\n"], None), ([], None)],
    ids=["v2", "v1", "no limit", "no cgroup"],
)
def test_the_memory_is_the_cgroups_limit_or_else_the_machines(
    texts: list[str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel writes it, in either version; it may say that there is none."""
    files = [tmp_path / "v2", tmp_path / "v1"]
    for file, text in zip(files, texts, strict=False):
        file.write_text(text)
    monkeypatch.setattr(resources, "_CGROUP_FILES", tuple(map(str, files)))
    assert memory_limit() == (expected or psutil.virtual_memory().total)


def test_the_resident_memory_is_in_bytes_and_zero_where_the_system_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second number of statm is in pages."""
    statm = tmp_path / "statm"
    monkeypatch.setattr(resources, "_PAGES", statm)
    assert resident_bytes() == 0
    statm.write_text("1000 200 30 4 0 5 0\n")
    assert resident_bytes() == 200 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("limits", "raised", "connections"),
    [
        ((1024, 4096), [(4096, 4096)], 3456),
        ((4096, 4096), [], 3456),
        ((1280, 1280), [], 640),
        ((1000, 1000), [], 500),
        ((1, 1), [], 1),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), [], 2**31 - 1),
    ],
)
def test_descriptors_are_raised_to_the_hard_limit_and_some_are_kept_for_other_things(
    limits: tuple[int, int], raised: list[tuple[int, int]], connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """640, or half of them where that is less."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_NOFILE: limits}.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: calls.append(both))
    assert raise_descriptor_limit() == connections
    assert calls == raised


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_descriptors_that_the_system_does_not_raise_stay_as_they_are(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS does not, beyond its own limit."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 1024 - 512


def test_glibc_gives_blocks_of_a_mebibyte_back_and_has_four_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps 8 MiB at the end of a heap: what a batch takes again and again."""
    options: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: object) -> None:
            assert name is None
            self.mallopt = lambda *option: options.append(option)

    monkeypatch.setattr(ctypes, "CDLL", Library)
    bound_allocator()
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    assert options == [(trim_threshold, 8 * MiB), (mmap_threshold, MiB), (arena_max, 4)]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_than_glibc_is_left_as_it_is(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mallopt, or where the program's own symbols cannot be asked for."""

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    bound_allocator()
