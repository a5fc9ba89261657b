"""The scorer: a piece of the input becomes a part of the output, with whatever engine calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from delivery.places import Place
from scoring.decoders import Decode, decoded
from scoring.errors import ScoringUsageError
from scoring.models import Identity, Source
from scoring.parts import Parts, Record
from scoring.pieces import Piece
from scoring.readers import Columns, UnreadableError, rows


class Job(NamedTuple):
    """All that a scorer needs, wherever it runs. digest: of everything that the output depends on."""

    source: Source
    identity: Identity
    columns: Columns
    labels: str
    output: str
    form: str
    digest: str


class Scorer:
    """Scores pieces with one model. Threads may share it; Ray has one in each actor. decode: of pictures."""

    def __init__(self, job: Job, decode: Decode = decoded) -> None:
        self._job = job
        self._decode = decode
        here = job.source.identity()
        if here != job.identity:
            raise ScoringUsageError(f"{_told(here)} is here, and the job has {_told(job.identity)}")
        self._model = job.source.open()
        self._parts = Parts(Place.of(job.output), job.digest, job.form)

    def score(self, piece: Piece) -> Record:
        """Reads, runs and writes a piece; what it became. Raises ScoringError, ServingError, ClientError."""
        job = self._job
        try:
            with self._parts.part(piece) as part:
                for some in rows(piece, job.columns, self._decode):
                    part.add(some, self._model.run(some.pixels), job.identity, job.labels)
        except UnreadableError as error:
            return self._parts.failed(piece, str(error))
        return part.record

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The same for Ray's `map_batches`: a column `piece` of JSON becomes a column `record` of JSON."""
        records = [self.score(Piece.from_json(str(text))).to_json() for text in batch["piece"]]
        return {"record": np.array(records, object)}

    def close(self) -> None:
        """Lets go of the model."""
        self._model.close()


def _told(identity: Identity) -> str:
    return f"version {identity.version} of {identity.model}" + (f" ({identity.digest})" if identity.digest else "")
