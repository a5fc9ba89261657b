"""What happens before a server starts: base path, version directories and ports are checked, models.config is written.

Every refusal names its fix.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fashion_common.errors import BasePathError, LabelsError
from fashion_common.files import write_whole
from fashion_common.installation import CONFIG_FOLDER, MODELS_FILE
from fashion_common.labels import STABLE, labels_writer, read_labels
from fashion_common.layout import LITE_MODEL_FILE, MODEL_FILES, SAVED_MODEL_FILE, check_base_path
from serving.launch.access import write_access
from serving.launch.backends import ServeOptions
from serving.launch.errors import LaunchError, ServeUsageError
from serving.launch.models_config import derived
from serving.launch.offer import Offer

# The server's flags that `fashion serve` sets itself, and the option that does so.
_OWN_FLAGS = {
    "port": "--port",
    "rest_api_port": "--rest-port",
    "host": "--host",
    "model_name": "--model-name",
    "model_base_path": "--model-base-path",
    "token_file": "--token-file",
    "require_signature": "--require-signature",
}


def check_server_flags(options: ServeOptions) -> None:
    """Raises ServeUsageError for a flag of the server that has an option here: the two would contradict each other."""
    for flag, option in _OWN_FLAGS.items():
        if options.server_flag(flag) is not None:
            raise ServeUsageError(
                f"--{flag} after -- contradicts {option} of `fashion serve`: give {option}, before --"
            )


def versions_to_serve(options: ServeOptions, offer: Offer) -> dict[int, Path]:
    """The version directories that may be served, by version. Raises ServeUsageError when nothing can be."""
    try:
        versions = offer.versions(check_base_path(options.model_name, options.model_base_path))
    except BasePathError as error:
        fix = "" if options.model_base_path.exists() else ". `fashion export` writes the first version"
        raise ServeUsageError(f"{error}{fix}") from error
    if not versions:
        keys = ", ".join(map(str, options.public_keys))
        raise ServeUsageError(
            f"no version under {options.model_base_path} is signed with {keys}: `fashion export --sign` signs one"
        )
    newest = versions[max(versions)]
    if not any((newest / name).is_file() for name in MODEL_FILES):
        raise ServeUsageError(
            f"{newest} holds neither {SAVED_MODEL_FILE} nor {LITE_MODEL_FILE}: remove the directory, or export again"
        )
    return versions


def check_readable(model_base_path: Path, version: Path) -> None:
    """Raises ServeUsageError when a container's user, who is not the owner, cannot read a version's directory."""
    for path in (model_base_path, version, *version.rglob("*")):
        permission = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if path.stat().st_mode & permission != permission:
            raise ServeUsageError(
                f"{path} cannot be read by the container's user (UID 1000): chmod -R a+rX {model_base_path}"
            )


def with_free_ports(options: ServeOptions) -> ServeOptions:
    """The options with 0 replaced by free ports. Raises ServeUsageError for a port that is taken, or one for both."""
    if options.port == options.rest_port != 0:
        raise ServeUsageError(f"--port and --rest-port are both {options.port}: give each its own")
    with (
        _held_port(options.host, options.port, "--port") as port,
        _held_port(options.host, options.rest_port, "--rest-port") as rest_port,
    ):
        return replace(options, port=port, rest_port=rest_port)


def served_labels(options: ServeOptions, given: Mapping[str, int], versions: Collection[int]) -> dict[str, int]:
    """The version of every label: of --label, else as they are at the model base path.

    Raises ServeUsageError for a version that is not there; LabelsError when the labels cannot be read.
    """
    named = read_labels(options.model_base_path).named(versions)
    for label, version in {**named, **given}.items():
        if version not in versions:
            source = f"--label {label}={version}" if label in given else f"the label {label}={version}"
            raise ServeUsageError(
                f"{source}: version {version} is not there, only these are: {', '.join(map(str, sorted(versions)))}. "
                f"`fashion label {label}=N` moves a label"
            )
    return {**named, **given}


def keep_labels(options: ServeOptions, given: Mapping[str, int], stable: int) -> None:
    """Writes down the labels that were given, and that `stable` names its version from now on.

    Raises LabelsError when that cannot be written; a model base path may be read-only when nothing was given.
    """
    moved = read_labels(options.model_base_path).moved
    changes = {label: version for label, version in given.items() if moved.get(label) != version}
    if STABLE not in moved:
        changes[STABLE] = stable
    try:
        if changes:
            with labels_writer(options.model_base_path) as writer:
                writer.move(changes, action="serve")
    except LabelsError:
        if given:
            raise


def config_files(options: ServeOptions, labels: Mapping[str, int], versions: Collection[int]) -> dict[str, str]:
    """The text of each file that the backend's config_dir must hold, by name."""
    files = {file.name: file.read_text(encoding="utf-8") for file in sorted(options.config_dir.glob("*.config"))}
    container = options.backend == "container"
    files[MODELS_FILE] = derived(
        files[MODELS_FILE],
        name=options.model_name,
        base_path=options.container_base_path if container else str(options.model_base_path.absolute()),
        labels=labels,
        versions=versions,
        available=versions,
    )
    return files


def with_config(options: ServeOptions, files: Mapping[str, str], directory: Path) -> ServeOptions:
    """The options with these files, written into `directory`, for their config_dir. Raises LaunchError."""
    try:
        for name, text in files.items():
            write_whole(directory / name, text)
        write_access(options, directory)
    except OSError as error:
        raise LaunchError(f"the server's configuration cannot be written to {directory}: {error.strerror}") from error
    return replace(options, config_dir=directory)


@contextmanager
def temporary_config(options: ServeOptions, files: Mapping[str, str]) -> Iterator[ServeOptions]:
    """The same for the time of a server, in a directory that a container's user can read too. Raises LaunchError."""
    try:
        directory = tempfile.TemporaryDirectory()
    except OSError as error:
        raise LaunchError(f"the server's configuration has no place: {error.strerror}. TMPDIR names one") from error
    with directory as path:
        # A temporary directory is open to its owner alone; the one in it can be mounted.
        yield with_config(options, files, Path(path) / CONFIG_FOLDER)


@contextmanager
def _held_port(host: str, port: int, option: str) -> Iterator[int]:
    """The number of a port that is held meanwhile: a free one for 0. Raises ServeUsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as holder:
            if os.name == "posix":
                # As servers do: connections that linger from the last server are no hindrance.
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((host, port))
            yield holder.getsockname()[1]
    except OSError as error:
        fix = f"{option} takes another one, or 0 for a free one" if port else "--host takes an address of this machine"
        raise ServeUsageError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. {fix}; "
            "`fashion serve --stop` ends what --detach started"
        ) from error
