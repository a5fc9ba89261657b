"""What answers: a version in this process, or servers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fashion_common.layout import LITE_MODEL_FILE, MODEL_FILES, check_base_path, version_number
from fashion_common.served_model import MODEL_NAME
from scoring.errors import ScoringUsageError

if TYPE_CHECKING:
    from client.transports.security import Security

_SIGNATURE = "serving_default"
_PIECE_BYTES = 2**20


class Outputs(NamedTuple):
    """class_ids: int64 [N]. probabilities: float32 [N, 10]."""

    class_ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


class Identity(NamedTuple):
    """Which model: equal ones have equal answers. version: its number. digest: of its files, "" unknown."""

    model: str
    version: int
    digest: str


class Model(Protocol):
    """Threads may share it."""

    identity: Identity

    def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """pixels: uint8 [N, 28, 28]. Raises ServingError or ServerError."""

    def close(self) -> None:
        """Lets go of it."""


class Source(NamedTuple):
    """Where a model is: the directory of a version, or the servers that have it. threads: that run it at a time."""

    directory: str = ""
    servers: tuple[str, ...] = ()
    model_name: str = MODEL_NAME
    version: int | None = None
    timeout: float = 30.0
    security: Security | None = None
    threads: int = 1

    def open(self) -> Model:
        """The model. Raises ScoringUsageError, ServingError, ClientError."""
        return ServerModel(self) if self.servers else DirectoryModel(Path(self.directory), self.threads)


class DirectoryModel:
    """A version in this process, on LiteRT where it has a `model.tflite`, else on TensorFlow."""

    def __init__(self, path: Path, threads: int) -> None:
        from fashion_common.runtimes import LITERT, installed_runtimes
        from serving.embedded.loading.runtimes import RuntimeOptions, runtime_load
        from serving.embedded.models.manifest import check_files
        from serving.embedded.models.storage import VersionDirectory

        version, directory = _version(path)
        files = VersionDirectory(directory)
        check_files(files)
        lite = (directory / LITE_MODEL_FILE).is_file() and LITERT in installed_runtimes()
        self._servable = runtime_load(RuntimeOptions(prefer_lite=lite, pools=threads))(files)
        self.identity = Identity(MODEL_NAME, version, _digest(directory))
        definition = self._servable.signatures.get(_SIGNATURE)
        if definition is None or not {"probabilities", "class_ids"} <= definition.outputs.keys():
            raise ScoringUsageError(f"{directory} has no signature {_SIGNATURE} with probabilities and class_ids")
        [feed] = definition.inputs.values()
        self._feed = feed.name
        self._fetches = [definition.outputs[name].name for name in ("class_ids", "probabilities")]

    def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """As Model has it."""
        class_ids, probabilities = self._servable.run({self._feed: pixels}, self._fetches)
        return Outputs(class_ids, probabilities)

    def close(self) -> None:
        """As Model has it."""
        self._servable.close()


class ServerModel:
    """A version on one server, or on several in turn: the one that was the newest when the job began."""

    def __init__(self, source: Source) -> None:
        from client import connect
        from client.types import ModelSpec

        connection = functools.partial(connect, *source.servers, timeout=source.timeout, security=source.security)
        version = source.version
        if version is None:
            with connection(model=ModelSpec(source.model_name)) as newest:
                version = newest.metadata().version
        self._connection = connection(model=ModelSpec(source.model_name, version))
        # REST knows no output_filter.
        is_rest = any(server.startswith("http") for server in source.servers)
        self._outputs = () if is_rest else ("class_ids", "probabilities")
        self.identity = Identity(source.model_name, version, "")

    def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """As Model has it."""
        outputs = self._connection.infer({"images": pixels}, output_filter=self._outputs)
        return Outputs(outputs["class_ids"], outputs["probabilities"])

    def close(self) -> None:
        """As Model has it."""
        self._connection.close()


def _version(path: Path) -> tuple[int, Path]:
    """The number and the directory of a version, or of the newest below a model base path."""
    number = version_number(path.name)
    if number is not None and any((path / name).is_file() for name in MODEL_FILES):
        return number, path
    versions = check_base_path(MODEL_NAME, path)
    return max(versions), versions[max(versions)]


def _digest(directory: Path) -> str:
    """Of the model's own files: those that make its answers."""
    digest = hashlib.sha256()
    paths: Sequence[Path] = [directory / name for name in MODEL_FILES]
    for path in [*paths, *sorted((directory / "variables").glob("*"))]:
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\n".encode())
            with path.open("rb") as file:
                while data := file.read(_PIECE_BYTES):
                    digest.update(data)
    return digest.hexdigest()[:16]
