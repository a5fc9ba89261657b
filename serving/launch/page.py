"""The page beside a server, `fashion serve --web`: `fashion web` as a program of its own, since we know no client."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fashion_common.installation import install_command, module_command
from serving.launch.backends import ServeOptions
from serving.launch.errors import ServeUsageError
from serving.launch.tls import tls_arguments

_EXTRA = "web"
_MODULES = ("starlette", "uvicorn")


def check_page(*, wanted: bool) -> None:
    """Raises ServeUsageError where a page is wanted and cannot run: said before a server is started for it."""
    for module in _MODULES if wanted else ():
        if importlib.util.find_spec(module) is None:
            raise ServeUsageError(
                f"--web needs the extra [{_EXTRA}] ({module} is not installed): {install_command(_EXTRA)}"
            )


def page_command(options: ServeOptions) -> list[str]:
    """`fashion web` of this server over REST, which has the metrics."""
    tls = tls_arguments(options) if options.rest_origin.startswith("https") else []
    own = ["--model-name", options.model_name, "--no-open"]
    return [*module_command("client.cli"), "web", "--server", options.rest_origin, *tls, *own]


@contextmanager
def page(options: ServeOptions, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Gives what starts the page if it is wanted; it prints its own address, and ends with the block."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        if wanted:
            processes.append(subprocess.Popen(page_command(options), stdin=subprocess.DEVNULL, stderr=sys.stderr))

    try:
        yield start
    finally:
        for process in processes:
            process.terminate()
            process.wait()
