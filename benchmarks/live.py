"""The server that a benchmark asks."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GRPC = re.compile(r"gRPC  (grpc://\S+)")


@contextmanager
def served(address: str | None = None) -> Iterator[str]:
    """The gRPC address of `address`'s server, or of `fashion serve` on a free port, stopped afterwards."""
    if address:
        yield address
        return
    command = [str(Path(sys.executable).with_name("fashion")), "serve", "--port", "0", "--rest-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := _GRPC.search(line):
                    yield found[1]
                    return
            sys.exit("fashion serve ended: is there a version under models/fashion_mnist? `make train export`")
        finally:
            server.terminate()
            server.communicate()
