"""The servers that can serve a model base path: each is one command line."""

from __future__ import annotations

import itertools
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fashion_common.installation import module_command
from fashion_common.layout import MODEL_BASE_PATH
from fashion_common.running import own_token
from fashion_common.served_model import MODEL_NAME
from serving.apis import CONFIG_DIR

TF_SERVING_VERSION = "2.21.0"
OFFICIAL_IMAGE = f"tensorflow/serving:{TF_SERVING_VERSION}"
MODEL_SERVER = "tensorflow_model_server"
# Directories and ports inside the images.
CONTAINER_CONFIG = "/config"
CONTAINER_PORT = 8500
CONTAINER_REST_PORT = 8501
# No container may write to its root file system, have capabilities, gain privileges, or run as root.
RESTRICTIONS = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=1000:1000")
STOP_SECONDS = 10
# TF Serving's SSLConfig, in the configuration directory.
SSL_FILE = "ssl.config"
# A label that moves to a version that has to be loaded takes two looks, and is to be there in ten seconds.
_CONFIG_POLL_SECONDS = 3
# Where a client on this machine finds a server that listens on all addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on


@dataclass(frozen=True)
class ServeOptions:
    """What is served, by what, and where.

    backend: one of BACKENDS. versions: those that are loaded first. config_dir: holds models.config, batching.config
    and monitoring.config. engine: docker or podman. init: whether the engine has an init process to run before the
    server. image: empty for the official one. server_flags: more flags, handed on unchanged. public_keys: one of
    them must have signed what is served; none for no matter who. tls_cert, tls_key, tls_client_ca: PEM files, of the
    server and of who signs its clients' certificates. token_file: of those who may ask. address: of where the versions
    are pulled from, which may have a password.
    """

    backend: str = "container"
    model_base_path: Path = MODEL_BASE_PATH
    model_name: str = MODEL_NAME
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    verbose: bool = False
    config_dir: Path = CONFIG_DIR
    engine: str = "docker"
    init: bool = True
    image: str = ""
    gpu: bool = False
    server_flags: Sequence[str] = ()
    public_keys: Sequence[Path] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None
    address: str = field(default="", repr=False)
    versions: Sequence[int] = ()

    @property
    def image_name(self) -> str:
        """The image of a container: the one asked for, or the official one."""
        return self.image or OFFICIAL_IMAGE + ("-gpu" if self.gpu else "")

    @property
    def container_name(self) -> str:
        """The container's name, one for each gRPC port."""
        return f"fashion-serving-{self.port}"

    @property
    def container_base_path(self) -> str:
        """The model base path in a container: of the same name, by which `fashion export --keep` recognises it."""
        return f"/models/{self.model_base_path.absolute().name}"

    @property
    def ssl_config_file(self) -> str:
        """The server's own path of the file that makes its gRPC port speak TLS; empty without TLS."""
        if self.tls_cert is not None:
            return f"{CONTAINER_CONFIG if self.backend == 'container' else self.config_dir}/{SSL_FILE}"
        return self.server_flag("ssl_config_file") or ""

    @property
    def tls_files(self) -> list[str]:
        """The PEM files, absolute: certificate, key, and the clients' authorities if any; none without TLS."""
        files = (self.tls_cert, self.tls_key, self.tls_client_ca)
        return [str(file.absolute()) for file in files if file is not None]

    @property
    def rest_origin(self) -> str:
        """Where REST is, as a URL. TF Serving has no TLS for it."""
        scheme = "https" if self.ssl_config_file and self.backend == "embedded" else "http"
        return f"{scheme}://{self.reachable_host}:{self.rest_port}"

    @property
    def own_token(self) -> str:
        """By which we ask it for its state; empty where it asks nobody."""
        return own_token(self.config_dir)

    @property
    def grpc_url(self) -> str:
        """Where a client on this machine finds the server."""
        return f"{'grpcs' if self.ssl_config_file else 'grpc'}://{self.reachable_host}:{self.port}"

    @property
    def status_url(self) -> str:
        """The model's state over REST."""
        name = urllib.parse.quote(self.model_name, safe="")
        return f"{self.rest_origin}/v1/models/{name}"

    def server_flag(self, name: str) -> str | None:
        """The value of one of the server's flags, the last one of several; None where it is not given."""
        value = None
        for flag, following in itertools.pairwise([*self.server_flags, ""]):
            key, separator, text = flag.removeprefix("-").removeprefix("-").partition("=")
            if flag.startswith("-") and key == name:
                value = text if separator else following
        return value

    @property
    def reachable_host(self) -> str:
        """The host under which a client on this machine finds the server, as in a URL."""
        host = _LOOPBACK.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


def config_flags(directory: object) -> list[str]:
    """The flags that make a server read the three files in a directory, the same for every backend."""
    return [
        f"--model_config_file={directory}/models.config",
        f"--model_config_file_poll_wait_seconds={_CONFIG_POLL_SECONDS}",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={directory}/batching.config",
        f"--monitoring_config_file={directory}/monitoring.config",
    ]


def container(options: ServeOptions, *, detach: bool = False) -> list[str]:
    """`docker run` or `podman run` of TF Serving's image, or of another that takes the same flags.

    --init, because the official entry point does not pass SIGTERM on. Detached, it remains after its end, for its log.
    """
    # podman knows GPUs by their CDI names: https://docs.podman.io/en/latest/markdown/podman-run.1.html
    gpu_flag = "--device=nvidia.com/gpu=all" if options.engine == "podman" else "--gpus=all"
    return [
        options.engine,
        "run",
        "--detach" if detach else "--rm",
        *(["--init"] if options.init else []),
        f"--name={options.container_name}",
        *RESTRICTIONS,
        *([gpu_flag] if options.gpu else []),
        f"--publish={options.host}:{options.port}:{CONTAINER_PORT}",
        f"--publish={options.host}:{options.rest_port}:{CONTAINER_REST_PORT}",
        f"--volume={options.model_base_path.absolute()}:{options.container_base_path}:ro",
        f"--volume={options.config_dir}:{CONTAINER_CONFIG}:ro",
        options.image_name,
        *config_flags(CONTAINER_CONFIG),
        *_ssl_flags(options),
        *options.server_flags,
    ]


def stop_container(engine: str, name: str) -> list[str]:
    """Ends the container: SIGTERM, and SIGKILL for an entry point that does not pass it on."""
    return [engine, "stop", f"--time={STOP_SECONDS}", name]


def binary(options: ServeOptions) -> list[str]:
    """`tensorflow_model_server` from the PATH. It listens on all addresses: it has no flag for that."""
    return [MODEL_SERVER, *_process_flags(options)]


def embedded(options: ServeOptions) -> list[str]:
    """`python -m serving.embedded`, on any machine that has TensorFlow."""
    verbose = ["--verbose"] if options.verbose else []
    keys = ",".join(str(key.absolute()) for key in options.public_keys)
    signed = [f"--require_signature={keys}"] if keys else []
    own = [*verbose, *signed, *([f"--token_file={options.token_file.absolute()}"] if options.token_file else [])]
    return [*module_command("serving.embedded"), f"--host={options.host}", *own, *_process_flags(options)]


BACKENDS: Mapping[str, Callable[[ServeOptions], list[str]]] = {
    "container": container,
    "binary": binary,
    "embedded": embedded,
}


def usage_command(options: ServeOptions) -> list[str]:
    """What makes a backend's server print its flags to stdout: it needs no model for that."""
    if options.backend == "container":
        return [options.engine, "run", "--rm", *RESTRICTIONS, options.image_name, "--help"]
    return [*(module_command("serving.embedded") if options.backend == "embedded" else [MODEL_SERVER]), "--help"]


def _process_flags(options: ServeOptions) -> list[str]:
    ports = [f"--port={options.port}", f"--rest_api_port={options.rest_port}"]
    return [*ports, *config_flags(options.config_dir), *_ssl_flags(options), *options.server_flags]


def _ssl_flags(options: ServeOptions) -> list[str]:
    return [f"--ssl_config_file={options.ssl_config_file}"] if options.tls_cert is not None else []
