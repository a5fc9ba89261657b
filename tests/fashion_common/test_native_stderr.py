"""What C++ libraries print on descriptor 2 does not reach the user; what Python prints does."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os, sys, warnings
from fashion_common.native_stderr import native_stderr_silenced
os.write(2, b"before\\n")
with native_stderr_silenced():
    os.write(2, b"native\\n")
    warnings.warn("a warning")
    print("python", file=sys.stderr)
    print("half of a pair: \\udc80", file=sys.stderr)
os.write(2, b"after\\n")
print("python again", file=sys.stderr)
"""


def test_only_pythons_own_lines_pass() -> None:
    """Whatever is in them; and both descriptors are as they were afterwards."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["before", "python", r"half of a pair: \udc80", "after", "python again"]


def test_tensorflows_import_is_silent() -> None:
    """Its start-up chatter is printed below Python, before any log level is read."""
    program = (
        "from fashion_common.native_stderr import native_stderr_silenced\n"
        "with native_stderr_silenced():\n"
        "    import tensorflow as tf\n"
        "    tf.function(lambda x: x + 1)(tf.constant(1.0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
