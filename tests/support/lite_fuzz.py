"""Cut and changed copies of a model file, loaded and run: `python lite_fuzz.py FILE`.

Cut ones must be refused in this process. Changed ones are tried in a process each, as the server tries a file; what
passes there is loaded and run anew with other batches in that process, which few may end by a signal then.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

from serving.embedded.loading.litert import trial
from serving.embedded.loading.litert.lite_model import LiteModel
from serving.errors import ServingError

_CHANGED = 1000
_SECONDS = 20


def main(path: Path) -> int:
    """The exit code is the number of processes that ended after their trial."""
    content = path.read_bytes()
    cuts = range(0, len(content), 64)
    for size in cuts:
        with suppress(ValueError, RuntimeError):
            LiteModel(content[:size])
            raise AssertionError(f"{size} of {len(content)} bytes were taken for a model")
    generator = random.Random(1)
    ends = [_fate(_changed(content, generator)) for _ in range(_CHANGED)]
    print(
        f"{len(cuts)} cut, {len(ends)} changed: {ends.count('tried')} ended in their trial, {ends.count('ran')} later"
    )
    return ends.count("ran")


def _changed(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 8))):
        changed[generator.randrange(len(changed))] = generator.choice((generator.randrange(256), 0, 1, 127, 255))
    return bytes(changed)


def _fate(content: bytes) -> str:
    """Empty for a process that ended by itself, else what it was about when a signal ended it."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        signal.alarm(_SECONDS)
        trial.main(content)
        os.write(writing, b".")
        _run(content)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(process, 0)
    passed = bool(os.read(reading, 1))
    os.close(reading)
    ended = os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGALRM
    return ("ran" if passed else "tried") if ended else ""


def _run(content: bytes) -> None:
    with suppress(ValueError, RuntimeError):
        model = LiteModel(content)
        for signature in model.signatures.values():
            for rows in (2, 500):
                with suppress(ServingError):
                    trial.run(model, signature, rows)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
