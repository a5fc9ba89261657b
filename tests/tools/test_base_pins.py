"""Lock files for pip: a package with extras is pinned without them too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.base_pins import with_base_pins

LOCKS = sorted((Path(__file__).parents[2] / "requirements").glob("*.txt"))
LOCK = """\
a==1 \\
    --hash=sha256:00
b[x, y]==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:01 \\
    --hash=sha256:02
c==3 \\
    --hash=sha256:03
"""


def test_pins_with_extras_stand_beside_those_without() -> None:
    """With the marker and the hashes of theirs."""
    pin = "==2.0 ; python_full_version < '3.11' \\\n    --hash=sha256:01 \\\n    --hash=sha256:02\n"
    both = LOCK.replace(f"b[x, y]{pin}", f"b{pin}b[x, y]{pin}")
    assert with_base_pins(LOCK) == with_base_pins(both) == both


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_lock_has_both(lock: Path) -> None:
    """pip finds a version without a hash otherwise, as soon as there is a newer one."""
    lines = lock.read_text().splitlines()
    for line in lines:
        name, bracket, rest = line.partition("[")
        if bracket and not line.startswith(" "):
            assert name + rest.partition("]")[2] in lines
