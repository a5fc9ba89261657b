"""Random input: its time, its seeds, and the corpus that it begins with.

The time is FUZZ_SECONDS, split over all fuzzers: 10 in the suite, so that it stays quick; `FUZZ_SECONDS=60` is the full
test. Each round's seed is printed: FUZZ_SEED with the last one, which is shown when a test fails, sends the same again.

tests/corpus has a directory for each kind of file: what has once gone wrong, and examples to spoil. All of it is tried
first. What goes wrong anew is written there, as `found`: to be kept under a name that says what it is.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

# Three fuzzers of a live server on two runtimes, and those of five kinds of files.
SECONDS = float(os.environ.get("FUZZ_SECONDS", "10")) / 11
SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(2**32))
CORPUS = Path(__file__).parents[1] / "corpus"
ROUND = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
# A word, string or number of a text, or what is between them.
_WORD = re.compile(rb'"[^"]*"|[\w.+-]+|[^\w"]|.', re.DOTALL)
# What parsers trip over.
_PIECES = (
    b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b",", b'"', b"[" * 2000, b"{}", b"[]", b"null", b"true", b"-1", b"0",
    b"1e999", b"NaN", b"Infinity", b"9" * 5000, b"..", b"/", b"\\u0000", b"\\ud800", b"\x7f" + b"\xff" * 7,
    b"\xff" * 10 + b"\x01",
)  # fmt: skip


def run_rounds(feed: Callable[[], None]) -> None:
    """Feeds for the time that there is, and for two rounds however slow the machine is."""
    end = time.monotonic() + SECONDS
    for number in itertools.count():
        print(f"FUZZ_SEED={SEED + number}")
        seed(SEED + number)(feed)()
        if number and time.monotonic() >= end:
            return


def fuzz(kind: str, check: Callable[[bytes], None], examples: Sequence[bytes] = ()) -> None:
    """Holds a check to the corpus of a kind, and to spoiled copies of it. examples: more that are right."""
    files = sorted((CORPUS / kind).glob("*"))
    seeds = [*(file.read_bytes() for file in files), *examples]
    for data in seeds:
        check(data)
    # Where, how many bytes and one, 0 for a word, and what comes in their place.
    sizes = st.just(0) | st.integers(1, 13)
    edits = st.tuples(st.integers(0, 10_000), sizes, st.sampled_from(_PIECES) | st.binary(max_size=8))

    @ROUND
    @given(data=st.sampled_from(seeds), cuts=st.lists(edits, min_size=1, max_size=4), end=st.integers(0, 20_000))
    def feed(data: bytes, cuts: list[tuple[int, int, bytes]], end: int) -> None:
        for where, size, piece in cuts:
            if size:
                place = where % (len(data) + 1)
                data = data[:place] + piece + data[place + size - 1 :]
            else:
                words = _WORD.findall(data) or [b""]
                words[where % len(words)] = piece
                data = b"".join(words)
        # Some are cut short too.
        data = data[:end] if end < len(data) else data
        try:
            check(data)
        except BaseException:
            # The last one is the smallest.
            (CORPUS / kind).mkdir(exist_ok=True)
            (CORPUS / kind / "found").write_bytes(data)
            raise

    run_rounds(feed)
