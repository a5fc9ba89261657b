"""A server with little memory, innocent callers beside it, and what an attack costs both."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.embedded.admission.resources import SHARE
from tests.hostile.attacks import ATTACKS, Target, address
from tests.support.innocent import Innocent, innocent_callers
from tests.support.limited_process import Memory, limited
from tests.support.live import Server, running

BUDGET_BYTES = 80 * 2**20
# What a pod has left once its models are loaded, of which the server makes this its budget.
_LEFT_BYTES = int(BUDGET_BYTES / SHARE)
_LONGEST_WAIT_SECONDS = 0.5
# Attackers open thousands of connections, of which each costs the server several times what it takes to be made. On a
# slow machine that is the longer of the two.
_LONGEST_WAIT_CONNECTIONS = 24_000
# What the allocators may keep after an attack, and how soon the rest is back: four times the budget by
# serving/embedded/admission/resources.py. Most of it is TensorFlow's pool: less than one budget was kept without it
# (TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1). Whether the next attack has enough, the peak says.
KEPT_BYTES = 4 * BUDGET_BYTES
BACK_SECONDS = 10.0
FLAGS = (
    f"--max_bytes_in_flight={BUDGET_BYTES}",
    "--header_timeout_seconds=3",
    "--stall_timeout_seconds=3",
    "--idle_timeout_seconds=10",
)
HELD = sorted(ATTACKS)
_ATTEMPTS = 3
_NICENESS = 10
_RECOVERY_SECONDS = 30
_CONNECTIONS = 12_000
# Connections that the kernel's firewall follows, two minutes beyond their ends. When its table is full it drops new
# ones, and their callers try again a second later.
_FOLLOWED, _MOST_FOLLOWED = (Path("/proc/sys/net/netfilter", f"nf_conntrack_{name}") for name in ("count", "max"))
_FOLLOWED_SECONDS = 150


class Cost(NamedTuple):
    """What an attack cost: the longest waits of innocent callers in seconds, and memory in bytes.

    late: the machine's part in the waits, as `Waits.late` says. back: whether the memory came back. total: what
    there was.
    """

    grpc: float
    rest: float
    late: float
    peak: int
    kept: int
    back: bool
    total: int
    failures: Sequence[str]

    @property
    def wait(self) -> float:
        """How long a caller waited, and not for want of the machine."""
        return max(self.grpc, self.rest) - self.late

    def faults(self) -> list[str]:
        """What is beyond the limits."""
        return [
            *([f"a caller waited {self.wait:.2f} s"] if self.wait > longest_wait() else []),
            *([f"{self.peak >> 20} MiB of memory"] if self.peak > self.total else []),
            *([] if self.back else [f"{self.kept >> 20} MiB did not come back"]),
            *self.failures[:5],
        ]


class Grounds:
    """A live server with its memory and its innocent callers."""

    def __init__(self, server: Server, memory: Memory, innocent: Innocent, total: int) -> None:
        self.server = server
        self.memory = memory
        self.innocent = innocent
        self.target = Target(address(server.grpc), address(server.rest))
        self.resident = memory.resident()
        self.total = total

    def attacked(self, names: Sequence[str], seconds: float, order: random.Random | None = None) -> Cost:
        """Runs attacks for some seconds, in turns, and gives what they cost.

        A wait that is too long is measured again: what the server does repeats itself, what else the machine has to do
        does not.
        """
        cost = self._attacked(names, seconds, order)
        for _ in range(_ATTEMPTS - 1):
            if cost.wait <= longest_wait() or cost.failures:
                break
            cost = self._attacked(names, seconds, order)
        return cost

    def _attacked(self, names: Sequence[str], seconds: float, order: random.Random | None) -> Cost:
        _wait_for_the_firewall()
        self.memory.forget_peak()
        self.innocent.waits()
        thread = threading.Thread(target=attack_for, args=(self.target, names, seconds, order or random.Random(0)))
        thread.start()
        thread.join()
        waits = [self.innocent.waits()]
        end = time.monotonic() + _RECOVERY_SECONDS
        while not waits[-1].answers or len(waits) == 1:
            # What was sent last is still being worked on.
            time.sleep(0.7)
            waits.append(self.innocent.waits())
            if time.monotonic() > end or self.server.process.poll() is not None:
                break
        back = self.memory.back_below(self.resident + KEPT_BYTES, BACK_SECONDS)
        waits.append(self.innocent.waits())
        grpc, rest, late = (max(getattr(wait, name) for wait in waits) for name in ("grpc", "rest", "late"))
        failures = [failure for wait in waits for failure in wait.failures]
        if not self.memory.resident():
            failures.insert(0, f"the server ended with {self.server.process.wait()}")
        kept = self.memory.resident() - self.resident
        return Cost(grpc, rest, late, self.memory.peak(), kept, back, self.total, failures)

    @property
    def is_alive(self) -> bool:
        """Whether the server answers as before."""
        if self.server.process.poll() is not None:
            return False
        self.innocent.waits()
        time.sleep(0.2)
        waits = self.innocent.waits()
        return not waits.failures and max(waits.grpc, waits.rest) < longest_wait()


@functools.cache
def longest_wait() -> float:
    """How long an innocent caller may wait, in seconds: by what a connection takes here, as a median."""
    times = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(200):
            begin = time.perf_counter()
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                times.append(time.perf_counter() - begin)
    return max(_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_CONNECTIONS * statistics.median(times))


def attack_for(target: Target, names: Sequence[str], seconds: float, order: random.Random) -> None:
    """Takes a step of each attack when it is due. Runs in a thread of its own, which gives way to all else."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    end = time.monotonic() + seconds
    due = [(time.monotonic() + order.random() / 10, name, ATTACKS[name](target)) for name in names]
    try:
        while due and (now := time.monotonic()) < end:
            due.sort(key=lambda entry: entry[0])
            when, name, steps = due.pop(0)
            time.sleep(max(0.0, min(when, end) - now))
            due.append((time.monotonic() + next(steps), name, steps))
    finally:
        for *_, steps in due:
            with contextlib.suppress(Exception):
                steps.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def grounds(toys: Path, directory: Path, runtime: str) -> Iterator[Grounds]:
    """A server of toy models with the memory of a pod, and innocent callers."""
    raise_descriptors()
    models = "".join(
        f"config {{ name: '{name}' base_path: '{toys / name}' model_platform: 'tensorflow' }}\n"
        for name in ("half_plus_two", "big_answers", "tf1")
    )
    config, monitoring = directory / "models.config", directory / "monitoring.config"
    config.write_text(f"model_config_list {{ {models} }}")
    monitoring.write_text("prometheus_config { enable: true }")
    with (
        running(
            f"--model_config_file={config}", f"--monitoring_config_file={monitoring}", f"--runtime={runtime}", *FLAGS
        ) as server,
        innocent_callers(server.grpc, server.rest) as innocent,
        limited(server.process.pid, total := Memory(server.process.pid).resident() + _LEFT_BYTES) as memory,
    ):
        innocent.waits()
        # A runtime takes its memory at the first runs.
        time.sleep(1)
        yield Grounds(server, memory, innocent, total)


def _wait_for_the_firewall() -> None:
    """Waits until the kernel's table of connections is at most half full: the attacks before have left theirs in it."""
    end = time.monotonic() + _FOLLOWED_SECONDS
    with contextlib.suppress(OSError):
        while int(_FOLLOWED.read_text()) > int(_MOST_FOLLOWED.read_text()) / 2 and time.monotonic() < end:
            time.sleep(1)


def raise_descriptors() -> None:
    """Lets this process have the connections of its attacks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, _CONNECTIONS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
