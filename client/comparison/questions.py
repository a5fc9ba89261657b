"""The inputs of a comparison, in requests: images from anywhere, or recorded requests as they were."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from client.errors import ClientUsageError, ImageError, ImageWarning
from client.limits import BATCH_SIZE
from client.pictures.batch import Batch
from client.pictures.images import open_picture, picture_pixels
from client.pictures.sources import Block, blocks
from client.pipeline import Images, groups
from client.predictions import predictions
from client.replay import Kind, address
from client.transports.grpc_wire import outputs
from client.types import IMAGE_BYTES, Prediction, Preprocess
from serving.apis.messages import PredictRequest
from serving.apis.recordings import RecordingError, has_inputs, read_recording, recordings_at
from serving.apis.tensors import Array, TensorError, make_ndarray
from serving.apis.tfrecord import is_tfrecord

if TYPE_CHECKING:
    from client.connection import Connection
    from serving.apis.messages import PredictLog, PredictResponse


class Question(Protocol):
    """One request: the name of each of its rows, and their labels where known."""

    @property
    def names(self) -> Sequence[str]:
        """Of each row."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Of each row, 0 to 9."""

    def ask(self, connection: Connection) -> list[Prediction]:
        """The answer to each row. Raises ServerError."""

    def content(self) -> bytes:
        """The bytes of its tensors."""

    def pixels(self, row: int) -> bytes:
        """A row as uint8 [28, 28]; b"" for one that is no image."""

    def single(self) -> Question:
        """A question of one row where that can be had: what latency is measured with."""


@dataclass(frozen=True)
class ImageQuestion:
    """Images as a batch to one signature; see Question."""

    names: Sequence[str]
    batch: Batch
    signature_name: str | None = None
    labels: Sequence[int] | None = None

    def ask(self, connection: Connection) -> list[Prediction]:
        """See Question."""
        return connection.predict(self.batch, signature_name=self.signature_name)

    def content(self) -> bytes:
        """See Question."""
        return self.batch.content

    def pixels(self, row: int) -> bytes:
        """See Question."""
        return next(self._row(row).images())

    def single(self) -> ImageQuestion:
        """See Question."""
        return ImageQuestion(self.names[:1], self._row(0), self.signature_name)

    def _row(self, row: int) -> Batch:
        size = len(self.batch.content) // self.batch.count
        return Batch(self.batch.dtype, self.batch.content[row * size : (row + 1) * size])


@dataclass(frozen=True)
class RecordedQuestion:
    """A recorded Predict request, and the answer that it got; see Question. inputs: as arrays."""

    names: Sequence[str]
    inputs: Mapping[str, Array]
    log: PredictLog
    labels: None = None

    def ask(self, connection: Connection) -> list[Prediction]:
        """See Question."""
        request = PredictRequest()
        request.CopyFrom(self.log.request)
        # What a caller left out is wanted here.
        request.ClearField("output_filter")
        address(request, connection.model)
        return self._predictions(connection.exchange(request))

    def recorded(self) -> list[Prediction]:
        """The answers in the recording. Raises ServerError for what is no classifier's, ClientUsageError for none."""
        if not self.log.response.outputs:
            raise ClientUsageError(f"{self.names[0]}: a request without its answer: name a version as the baseline")
        return self._predictions(self.log.response)

    def content(self) -> bytes:
        """See Question."""
        arrays = (array for _, array in sorted(self.inputs.items()))
        return b"".join(b"".join(array.flat) if array.dtype == object else array.tobytes() for array in arrays)

    def pixels(self, row: int) -> bytes:
        """See Question."""
        array, *others = self.inputs.values()
        if others:
            return b""
        values = array.reshape(len(self.names), -1)[row]
        if array.dtype == object:
            return _picture_pixels(bytes(values[0]))
        if len(values) != IMAGE_BYTES or array.dtype not in (np.uint8, np.float32):
            return b""
        if array.dtype == np.float32:
            # A recorded float need not be from 0 to 1, nor a number.
            values = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
        return bytes(values)

    def single(self) -> RecordedQuestion:
        """See Question."""
        return self

    def _predictions(self, response: PredictResponse) -> list[Prediction]:
        return list(predictions(outputs(response), len(self.names)))


def questions(
    paths: Sequence[str],
    *,
    preprocess: Preprocess = "auto",
    batch_size: int = BATCH_SIZE,
    signature_name: str | None = None,
) -> Iterator[Question]:
    """The inputs of files, in order: recordings, directories of them, or what `client.pictures.sources.blocks` reads.

    Raises ClientUsageError, RecordingError or ImageError for one that cannot be used: a comparison of fewer inputs than
    were named would mislead.
    """
    for has_recordings, group in groupby(paths, _has_recordings):
        if has_recordings:
            for path in group:
                for file in recordings_at(Path(path)):
                    yield from recorded_questions(file)
        else:
            yield from image_questions(blocks(list(group), preprocess, batch_size), batch_size, signature_name)


def image_questions(
    images: Iterable[Block],
    batch_size: int = BATCH_SIZE,
    signature_name: str | None = None,
    labels: Sequence[int] | None = None,
) -> Iterator[ImageQuestion]:
    """Images in batches. labels: of all images, in order. Raises ImageError."""
    row = 0
    with closing(groups(images, batch_size)) as batches:
        for group in batches:
            names, batch = _joined(group)
            known = None if labels is None else labels[row : row + batch.count]
            row += batch.count
            yield ImageQuestion(names, batch, signature_name, known)


def recorded_questions(path: Path) -> Iterator[RecordedQuestion]:
    """The Predict requests of a recording; records of other methods are passed over.

    Raises RecordingError, and ClientUsageError for a request that cannot be sent again.
    """
    for number, log in enumerate(read_recording(path), start=1):
        if not log.HasField("predict_log"):
            continue
        name = f"{path}[{number}]"
        if not has_inputs(log):
            raise ClientUsageError(f"{name}: a request without its inputs, as of a server that records answers only")
        try:
            inputs = {key: make_ndarray(proto) for key, proto in log.predict_log.request.inputs.items()}
        except TensorError as error:
            raise ClientUsageError(f"{name}: {error}") from error
        rows = Kind.of(log.predict_log.request).batch_size
        names = [name] if rows == 1 else [f"{name}[{row}]" for row in range(rows)]
        if rows:
            yield RecordedQuestion(names, inputs, log.predict_log)


def _joined(group: Sequence[Images]) -> tuple[Sequence[str], Batch]:
    names: list[str] = []
    batches = []
    for batch_names, batch in group:
        if isinstance(batch, ImageError):
            raise batch
        names += batch_names
        batches.append(batch)
    return names, Batch(batches[0].dtype, b"".join(batch.content for batch in batches))


def _has_recordings(path: str) -> bool:
    try:
        return any(file.is_file() and is_tfrecord(file) for file in recordings_at(Path(path)))
    except (OSError, RecordingError):
        # Whoever reads it says so.
        return False


def _picture_pixels(file: bytes) -> bytes:
    # It is only shown: whether its answer means anything is not asked.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        try:
            return picture_pixels(open_picture(io.BytesIO(file), ""), "", "none")
        except ImageError:
            return b""
