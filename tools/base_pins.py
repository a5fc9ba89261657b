"""Adds to lock files, for each pin of a package with extras, the pin without them.

pip takes the two for different packages, and looks for the newest version of the one that has no pin, which has no hash
then. uv writes one or the other. Run by `make lock`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

_WITH_EXTRAS = re.compile(r"^([A-Za-z0-9._-]+)\[[^\]]+\](==(?:.*\\\n)(?: .*\n)*)", re.MULTILINE)


def with_base_pins(lock: str) -> str:
    """The text of a lock file with both."""
    return _WITH_EXTRAS.sub(lambda pin: pin[0] if (base := pin[1] + pin[2]) in lock else base + pin[0], lock)


def main(files: Sequence[str]) -> None:
    """Changes the files."""
    for name in files:
        path = Path(name)
        path.write_text(with_base_pins(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
