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

from google.protobuf import text_format

from fashion_common.errors import BasePathError
from fashion_common.files import write_whole
from fashion_common.installation import CONFIG_FOLDER, MODELS_FILE
from fashion_common.layout import LITE_MODEL_FILE, MODEL_FILES, SAVED_MODEL_FILE, check_base_path
from serving.apis.messages import ModelServerConfig
from serving.launch.backends import ServeOptions
from serving.launch.errors import LaunchError, ServeUsageError

# The server's flags that `fashion serve` sets itself, and the option that does so.
_OWN_FLAGS = {
    "port": "--port",
    "rest_api_port": "--rest-port",
    "host": "--host",
    "model_name": "--model-name",
    "model_base_path": "--model-base-path",
}


def check_server_flags(options: ServeOptions) -> None:
    """Raises ServeUsageError for a flag of the server that has an option here: the two would contradict each other."""
    for flag, option in _OWN_FLAGS.items():
        if options.server_flag(flag) is not None:
            raise ServeUsageError(
                f"--{flag} after -- contradicts {option} of `fashion serve`: give {option}, before --"
            )


def versions_to_serve(options: ServeOptions) -> dict[int, Path]:
    """The version directories under the base path, by version. Raises ServeUsageError when nothing can be served."""
    try:
        versions = check_base_path(options.model_name, options.model_base_path)
    except BasePathError as error:
        fix = "" if options.model_base_path.exists() else ". `fashion export` writes the first version"
        raise ServeUsageError(f"{error}{fix}") from error
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


def newest_versions(versions: Collection[int]) -> list[int]:
    """The versions that are loaded, as models.config has it: the newest two."""
    return sorted(versions)[-2:]


def complete_labels(labels: Mapping[str, int], versions: Collection[int]) -> dict[str, int]:
    """These labels over the default ones: `canary` is the newest version, and `stable` the newest but one.

    With one version that is stable, and canary the next to come.
    Raises ServeUsageError for a version that will not be loaded: neither one of the newest two nor the next to come.
    """
    newest = newest_versions(versions)
    coming = newest[-1] + 1
    for label, version in labels.items():
        if version not in (*newest, coming):
            reason = "is not served, only the newest two are" if version < coming else "is not there, only these are"
            raise ServeUsageError(
                f"--label {label}={version}: version {version} {reason}: {', '.join(map(str, newest))} "
                f"(or {coming}, the next to come)"
            )
    stable, canary, *_ = *newest, coming
    return {"stable": stable, "canary": canary, **labels}


def config_files(options: ServeOptions, labels: Mapping[str, int]) -> dict[str, str]:
    """The text of each file that the backend's config_dir must hold, by name; none where the present one has it.

    models.config has the policy of the present one, with the served name, base path and labels.
    """
    files = {file.name: file.read_text(encoding="utf-8") for file in sorted(options.config_dir.glob("*.config"))}
    present = text_format.Parse(files[MODELS_FILE], ModelServerConfig())
    config = text_format.Parse(files[MODELS_FILE], ModelServerConfig())
    model = config.model_config_list.config[0]
    model.name = options.model_name
    path = options.container_base_path if options.backend == "container" else options.model_base_path.absolute()
    model.base_path = str(path)
    model.version_labels.clear()
    model.version_labels.update(labels)
    return {} if config == present else {**files, MODELS_FILE: text_format.MessageToString(config)}


def with_config(options: ServeOptions, files: Mapping[str, str], directory: Path) -> ServeOptions:
    """The options with these files, written into `directory`, for their config_dir. Raises LaunchError."""
    try:
        for name, text in files.items():
            write_whole(directory / name, text)
    except OSError as error:
        raise LaunchError(f"the server's configuration cannot be written to {directory}: {error.strerror}") from error
    return replace(options, config_dir=directory) if files else options


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
