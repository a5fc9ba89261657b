"""What is checked before a server starts, each with its fix: base path, version directories, ports."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

from fashion_common.errors import EXIT_USAGE, BasePathError, FashionError
from fashion_common.layout import SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE, check_base_path
from serving.launch.backends import ServeOptions


class ServeUsageError(FashionError):
    """What was asked for cannot be served."""

    exit_code = EXIT_USAGE


def checked_versions(options: ServeOptions) -> dict[int, Path]:
    """The versions under the base path. Raises ServeUsageError, with the fix, where there is nothing to serve."""
    try:
        versions = check_base_path(options.model_name, options.model_base_path)
    except BasePathError as error:
        fix = "" if options.model_base_path.exists() else ". `fashion export` writes the first version"
        raise ServeUsageError(f"{error}{fix}") from error
    newest = versions[max(versions)]
    if not any((newest / name).is_file() for name in (SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE)):
        raise ServeUsageError(
            f"{newest} holds no {SAVED_MODEL_FILE}: a version is a SavedModel. Remove the directory, or export again"
        )
    return versions


def check_readable(options: ServeOptions) -> None:
    """Raises ServeUsageError when a container's user, who is not the owner, could not read the model."""
    newest = checked_versions(options)[max(checked_versions(options))]
    for path in (options.model_base_path, newest, *newest.rglob("*")):
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if path.stat().st_mode & wanted != wanted:
            raise ServeUsageError(
                f"{path} cannot be read by the container's user (UID 1000): chmod -R a+rX {options.model_base_path}"
            )


def with_free_ports(options: ServeOptions) -> ServeOptions:
    """The options with 0 replaced by free ports. Raises ServeUsageError for a port that is taken, or one for both."""
    if options.port == options.rest_port != 0:
        raise ServeUsageError(f"--port and --rest-port are both {options.port}: give each its own")
    with (
        _bound(options.host, options.port, "--port") as grpc,
        _bound(options.host, options.rest_port, "--rest-port") as rest,
    ):
        return replace(options, port=grpc.getsockname()[1], rest_port=rest.getsockname()[1])


def _bound(host: str, port: int, option: str) -> socket.socket:
    """A socket that holds the port. Raises ServeUsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # As servers do: connections that linger from the last one are no hindrance.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        fix = f"{option} takes another one, or 0 for a free one" if port else "--host takes an address of this machine"
        raise ServeUsageError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. {fix}; "
            "`fashion serve --stop` ends what --detach started"
        ) from error
    return bound
