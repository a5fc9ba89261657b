"""The console command `fashion` in a process of its own, whose connection goes to a FakeTransport."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PROGRAM = """
import itertools
import sys

import client.connection
from client.cli import main
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import ModelSpec


numbers = itertools.count()


class Announcing(FakeTransport):
    def outputs(self, call):
        # Of several threads one: another could still write when the process ends.
        if next(numbers) == 20:
            print("20 requests", file=sys.stderr, flush=True)
        return super().outputs(call)


client.connection.connect = lambda *servers, **settings: Connection([Announcing(class_id=9)], ModelSpec())
main()
"""


@contextmanager
def fake_fashion(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The command with pipes for stdout and stderr; "20 requests" on stderr says that the 21st was answered."""
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
