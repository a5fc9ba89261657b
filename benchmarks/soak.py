"""All that a server meets in hours, in minutes: it stays right, and as large as it was.

`make soak`, ten minutes, or `make soak ARGS="--minutes 2"`. Callers ask both APIs all the time, and every answer is
checked against the version that it names, while versions come and go, labels move, workers are killed, attackers hold
and flood connections, and the access log's disk is full. Memory, descriptors and threads are sampled between attacks.

The system's clock stands: nobody can move it for one process that runs, so tests/serving/embedded/test_clock.py does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc

from serving.apis import services
from tests.hostile.attacks import Target, address
from tests.hostile.grounds import FLAGS, HELD, attack_for, longest_wait, raise_descriptors
from tests.support.asking import call, predict_request
from tests.support.innocent import Innocent, WrongAnswerError, check_grpc, innocent_callers
from tests.support.live import Server, free_port, running
from tests.support.measured import measured_on
from tests.support.toys import write_toys
from tests.support.workers import is_listening, workers_of

RESULTS = Path(__file__).parent / "results" / "soak.json"
MODEL = "half_plus_two"
# The last sixth against the second one: the first warms up.
PARTS = 6
GROWTH = {"memory_mib": 1.10, "descriptors": 1.10, "threads": 1.10}
# A killed worker takes the connections with it that it has; each of the five callers has one at a time, and may get
# another one while the worker goes.
BROKEN_BY_KILL = 10
# The connections that a firewall of this machine follows, and how many it can.
TRACKED, MOST_TRACKED = (Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
ATTACK_SECONDS = 2.0
REST_SECONDS = 2.5


class Round(NamedTuple):
    """An attack and what happened beside it. wait: the longest of a caller, in seconds, less the machine's part."""

    name: str
    wait: float
    failures: Sequence[str]
    is_kill: bool

    def faults(self) -> Iterator[str]:
        """What was not as it should be."""
        refused = [failure for failure in self.failures if _kind(failure) in ("WrongAnswerError", "RefusedError")]
        if refused:
            yield f"{len(refused)} wrong or refused answers: {refused[:5]}"
        broken = [failure for failure in self.failures if failure not in refused]
        if len(broken) > (allowed := BROKEN_BY_KILL if self.is_kill else 0):
            yield f"{len(broken)} connections broken, {allowed} is as many as may be: {broken[:5]}"
        if self.wait > longest_wait():
            yield f"a caller waited for {self.wait:.2f} s"


class Sample(NamedTuple):
    """What all processes of the server have together."""

    memory_mib: float
    descriptors: int
    threads: int


def main() -> int:
    """Runs the soak; exit code 1 when something was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Example: soak.py --minutes 2")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go as JSON")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), random.Random(options.seed))  # noqa: S311 - repeatable, not secret
        soak.run(options.minutes * 60)
    result = soak.result()
    print(json.dumps(result, indent=1))
    for fault in soak.faults():
        print(f"FAULT: {fault}", file=sys.stderr)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if soak.faults() else 0


class Versions:
    """A base path with two versions and a label, which move on. Odd versions have a bias of 2, even ones of 3."""

    def __init__(self, directory: Path) -> None:
        self._toys, self._base, self._aside = directory / "toys", directory / MODEL, directory / "aside"
        self._toys.mkdir()
        self._base.mkdir()
        write_toys(self._toys)
        self.config = directory / "models.config"
        self.newest = 0
        self.publish()
        self.publish()
        self.label(2)

    def publish(self) -> None:
        """Adds the next version, whole at once, and takes away the last but two."""
        self.newest += 1
        shutil.copytree(self._toys / MODEL / str(2 - self.newest % 2), self._aside)
        self._aside.rename(self._base / str(self.newest))
        shutil.rmtree(self._base / str(self.newest - 2), ignore_errors=True)

    def label(self, version: int) -> None:
        """Moves the label."""
        others = "".join(f"config {{ name: '{name}' base_path: '{self._toys / name}' model_platform: 'tensorflow' }}\n"
                         for name in ("big_answers", "tf1"))  # fmt: skip
        own = f"""config {{ name: '{MODEL}' base_path: '{self._base}' model_platform: 'tensorflow'
            model_version_policy {{ latest {{ num_versions: 2 }} }}
            version_labels {{ key: 'stable' value: {version} }} }}"""
        text = f"model_config_list {{ {own} {others} }}"
        self._aside.write_text(text)
        self._aside.replace(self.config)


class Soak:
    """One run and its figures."""

    def __init__(self, directory: Path, order: random.Random) -> None:
        self._versions = Versions(directory)
        self._order = order
        self._samples: list[Sample] = []
        self._events: Counter[str] = Counter()
        self._rounds: list[Round] = []
        # Of the caller who asks for the label, in this round.
        self._failures: list[str] = []
        self._answers = 0
        self._seconds = 0.0
        self._is_tracking_full = False
        self._stopping = threading.Event()

    def run(self, seconds: float) -> None:
        """Lets everything happen for so long."""
        raise_descriptors()
        ports = [free_port(), free_port()]
        flags = [f"--model_config_file={self._versions.config}", "--model_config_file_poll_wait_seconds=1",
                 "--file_system_poll_wait_seconds=0.2", "--allow_version_labels_for_unavailable_models",
                 "--workers=2", f"--port={ports[0]}", f"--rest_api_port={ports[1]}",
                 "--access_log", *FLAGS]  # fmt: skip
        with (
            Path("/dev/full").open("wb") as full,
            running(*flags, stdout=full) as server,
            innocent_callers(server.grpc, server.rest) as innocent,
        ):
            labelled = threading.Thread(target=self._ask_for_the_label, args=(server,))
            labelled.start()
            begin = time.monotonic()
            while self._seconds < seconds and server.process.poll() is None:
                self._round(server, innocent)
                self._seconds = time.monotonic() - begin
            self._stopping.set()
            labelled.join()
            if server.process.poll() is not None:
                end = f"server: WrongAnswerError: it ended: {server.log.read_text()[-2000:]}"
                self._rounds.append(Round("the end", 0.0, [end], is_kill=False))

    def _round(self, server: Server, innocent: Innocent) -> None:
        """An attack, beside it one thing that operators do, then a moment of rest and a sample."""
        target = Target(address(server.grpc), address(server.rest))
        names = self._order.sample(HELD, self._order.randint(1, 2))
        attack = threading.Thread(target=attack_for, args=(target, names, ATTACK_SECONDS, self._order))
        attack.start()
        event = self._order.choice(["publish", "publish", "kill a worker", "nothing"])
        if event == "publish":
            self._versions.publish()
            time.sleep(1.5)
            self._versions.label(self._versions.newest)
        elif event == "kill a worker" and not self._kill(workers_of(server.process.pid)):
            event = "nothing"
        self._events.update([event], attacks=len(names))
        attack.join()
        time.sleep(REST_SECONDS)
        waits = innocent.waits()
        self._answers += waits.answers
        failures, self._failures = [*waits.failures, *self._failures], []
        name = f"after {self._seconds:.0f} s, {event} beside {' and '.join(names)}"
        wait = max(waits.grpc, waits.rest) - waits.late
        self._rounds.append(Round(name, wait, failures, event == "kill a worker"))
        self._is_tracking_full = self._is_tracking_full or _is_tracking_full()
        workers = workers_of(server.process.pid)
        if all(map(is_listening, workers)):
            self._samples.append(_sample([server.process.pid, *workers]))

    def _kill(self, workers: Sequence[int]) -> bool:
        """Kills a worker, unless nobody would be there then to answer."""
        victim = self._order.choice(workers)
        if any(is_listening(other) for other in workers if other != victim):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                return True
        return False

    def _ask_for_the_label(self, server: Server) -> None:
        """Asks for the version with the label, over one connection."""
        request = predict_request(MODEL, {"x": [1.0, 2.0, 5.0]}, dtypes={"x": 1})
        request.model_spec.version_label = "stable"
        with grpc.insecure_channel(server.grpc) as channel:
            while not self._stopping.wait(0.02):
                try:
                    answer = call(channel, services.PREDICT, request)
                    check_grpc(answer.SerializeToString())
                    self._answers += 1
                except WrongAnswerError as error:
                    self._failures.append(f"label: WrongAnswerError: {error}")
                except grpc.RpcError as error:
                    lost = error.code() == grpc.StatusCode.UNAVAILABLE
                    kind = "ConnectionError" if lost else "RefusedError"
                    self._failures.append(f"label: {kind}: {error.code().name}: {error.details()}")

    def result(self) -> dict[str, object]:
        """The figures."""
        second, last = self._medians(1), self._medians(PARTS - 1)
        kinds = Counter(_kind(failure) for each in self._rounds for failure in each.failures)
        return {
            **measured_on(),
            "minutes": round(self._seconds / 60, 1),
            "answers": self._answers,
            "wrong": kinds["WrongAnswerError"],
            "refused": kinds["RefusedError"],
            "broken": kinds.total() - kinds["WrongAnswerError"] - kinds["RefusedError"],
            "longest_wait_seconds": round(max((each.wait for each in self._rounds), default=0.0), 2),
            "events": dict(self._events),
            "second_sixth": second._asdict(),
            "last_sixth": last._asdict(),
        }

    def faults(self) -> Sequence[str]:
        """What was not as it should be."""
        return list(self._faults())

    def _faults(self) -> Iterator[str]:
        for each in self._rounds:
            yield from (f"{each.name}: {fault}" for fault in each.faults())
        if self._is_tracking_full:
            yield (
                "the machine's firewall followed as many connections as net.netfilter.nf_conntrack_max, and lost "
                "new ones: raise it, or run the soak in a network of its own (unshare --net)"
            )
        second, last = self._medians(1), self._medians(PARTS - 1)
        for name, growth in GROWTH.items():
            before, after = getattr(second, name), getattr(last, name)
            if after > before * growth:
                yield f"{name} went from {before} to {after}"

    def _medians(self, part: int) -> Sample:
        size = len(self._samples) / PARTS
        samples = self._samples[round(part * size) : round((part + 1) * size)] or self._samples or [Sample(0, 0, 0)]
        return Sample(*(round(statistics.median(column), 1) for column in zip(*samples, strict=True)))


def _sample(pids: Sequence[int]) -> Sample:
    """Of these processes."""
    memory = descriptors = threads = 0
    for pid in pids:
        process = Path(f"/proc/{pid}")
        lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        memory += int(lines["VmRSS"].split()[0])
        threads += int(lines["Threads"])
        descriptors += len(list((process / "fd").iterdir()))
    return Sample(memory / 1024, descriptors, threads)


def _is_tracking_full() -> bool:
    return TRACKED.exists() and int(TRACKED.read_text()) > 0.95 * int(MOST_TRACKED.read_text())


def _kind(failure: str) -> str:
    """The error's class of `caller: class: text`."""
    return [*failure.split(": "), ""][1]


if __name__ == "__main__":
    sys.exit(main())
