"""Keeps what C++ libraries print off the user's terminal.

TensorFlow and absl write to file descriptor 2 while they are imported, below Python and before any log level is read.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Sends file descriptor 2 to the null device; Python's own `sys.stderr` keeps reaching the user.

    A child process started meanwhile inherits the silence unless it is given `stderr=sys.stderr`. Its environment is
    the user's own: with TF_CPP_MIN_LOG_LEVEL a server would keep its errors to itself. Python's warnings and loggers
    are quiet too, so that libraries have no other way to the terminal.
    """
    # matplotlib says at length that a home directory cannot be written, and does without.
    for name in ("absl", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    backup = os.dup(2)
    os.set_inheritable(backup, False)
    python_stderr = sys.stderr
    if _writes_to_descriptor_2(python_stderr):
        sys.stderr = open(os.dup(backup), "w", buffering=1, encoding=python_stderr.encoding, errors="backslashreplace")  # noqa: SIM115, PTH123
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(backup, 2)
        os.close(backup)
        if sys.stderr is not python_stderr:
            sys.stderr.close()
            sys.stderr = python_stderr


def _writes_to_descriptor_2(stream: io.TextIOBase | object) -> bool:
    try:
        return isinstance(stream, io.TextIOBase) and stream.fileno() == 2  # noqa: PLR2004 - stderr's number
    except (OSError, ValueError):
        return False
