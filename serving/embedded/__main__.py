"""`python -m serving.embedded`: the server as a process, with the flags of `tensorflow_model_server`."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fashion_common.errors import FashionError
from fashion_common.native_stderr import native_stderr_silenced
from serving.embedded.flags import Flags, parse, usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT. Gives the exit code."""
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
    except FashionError as error:
        print(f"{error}\n{usage()}", file=sys.stderr, end="")
        return error.exit_code
    if flags.help:
        print(usage(), end="")
        return 0
    with contextlib.nullcontext() if flags.verbose else native_stderr_silenced():
        try:
            return _run(flags)
        except FashionError as error:
            if flags.verbose:
                raise
            print(f"Error: {error}", file=sys.stderr)
            return error.exit_code


def _run(flags: Flags) -> int:
    from serving.embedded import loader
    from serving.embedded.runner import Servable
    from serving.embedded.server import ModelServer

    if flags.version:
        print(f"TensorFlow ModelServer: embedded\nTensorFlow Library: {loader.library_version()}")
        return 0
    logging.basicConfig(level=logging.INFO if flags.verbose else logging.WARNING, format="%(message)s")
    logging.getLogger("tensorflow").setLevel(logging.WARNING if flags.verbose else logging.ERROR)
    options = loader.SessionOptions()

    def load(_name: str, _version: int, path: Path) -> Servable:
        return loader.load(path, options)

    server = ModelServer(flags, load)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.request_stop())
    addresses = server.start()
    if addresses.grpc:
        print(f"Running gRPC ModelServer at {addresses.grpc} ...", file=sys.stderr, flush=True)
    if addresses.rest:
        print(f"Exporting HTTP/REST API at:{addresses.rest} ...", file=sys.stderr, flush=True)
    server.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
