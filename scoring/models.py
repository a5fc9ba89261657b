"""What answers: a version in this process, or servers."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fashion_common.files import sha256
from fashion_common.layout import LITE_MODEL_FILE, MODEL_FILES, check_base_path, version_number
from fashion_common.served_model import IMAGE_SHAPE, MODEL_NAME
from scoring.errors import ScoringUsageError

if TYPE_CHECKING:
    from client.transports.security import Security

_SIGNATURE = "serving_default"


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

    def identity(self) -> Identity:
        """Which model it is, without loading it. Raises ScoringUsageError, BasePathError, ClientError."""
        if self.servers:
            return Identity(self.model_name, _served_version(self), "")
        version, directory = _version(Path(self.directory))
        return Identity(MODEL_NAME, version, _digest(directory))

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

        _, directory = _version(path)
        files = VersionDirectory(directory)
        check_files(files)
        lite = (directory / LITE_MODEL_FILE).is_file() and LITERT in installed_runtimes()
        self._servable = runtime_load(RuntimeOptions(prefer_lite=lite, pools=threads))(files)
        # A server takes all that is there by now out of the garbage collection; this program may be somebody else's.
        gc.unfreeze()
        definition = self._servable.signatures.get(_SIGNATURE)
        if definition is None or not {"probabilities", "class_ids"} <= definition.outputs.keys():
            raise ScoringUsageError(f"{directory} has no signature {_SIGNATURE} with probabilities and class_ids")
        [feed] = definition.inputs.values()
        self._feed = feed.name
        self._fetches = [definition.outputs[name].name for name in ("class_ids", "probabilities")]
        # The first run of a runtime takes many times as long.
        self.run(np.zeros((1, *IMAGE_SHAPE), np.uint8))

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

        model = ModelSpec(source.model_name, _served_version(source))
        self._connection = connect(*source.servers, model=model, timeout=source.timeout, security=source.security)

    def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """As Model has it."""
        outputs = self._connection.infer({"images": pixels}, output_filter=("class_ids", "probabilities"))
        return Outputs(outputs["class_ids"], outputs["probabilities"])

    def close(self) -> None:
        """As Model has it."""
        self._connection.close()


def _served_version(source: Source) -> int:
    """The version that was asked for, or the newest one there."""
    from client import connect
    from client.types import ModelSpec

    if source.version is not None:
        return source.version
    model = ModelSpec(source.model_name)
    with connect(*source.servers, model=model, timeout=source.timeout, security=source.security) as newest:
        return newest.metadata().version


def _version(path: Path) -> tuple[int, Path]:
    """The number and the directory of a version, or of the newest below a model base path."""
    number = version_number(path.name)
    if number is not None and any((path / name).is_file() for name in MODEL_FILES):
        return number, path
    versions = check_base_path(MODEL_NAME, path)
    return max(versions), versions[max(versions)]


def _digest(directory: Path) -> str:
    """Of the model's own files, those that make its answers; by the manifest where there is one: loads keep to it."""
    from serving.embedded.models.manifest import read_manifest
    from serving.embedded.models.storage import VersionDirectory

    recorded = read_manifest(VersionDirectory(directory)) or {}
    digest = hashlib.sha256()
    paths: Sequence[Path] = [directory / name for name in MODEL_FILES]
    for path in [*paths, *sorted((directory / "variables").glob("*"))]:
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            digest.update(f"{name} {recorded[name].sha256 if name in recorded else sha256(path)}\n".encode())
    return digest.hexdigest()[:16]
