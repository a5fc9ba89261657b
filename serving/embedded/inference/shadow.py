"""The shadow: some Predict requests run again on the version of a label, after they were answered, and are compared.

Nothing of it is on the way of a request: a thread of its own runs the model, beside the runner and the batching, for at
most half of the time. What it holds is bounded and spare; what finds no room is dropped.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import random
from typing import Protocol

import numpy as np

from serving.apis.messages import ModelSpec
from serving.apis.recordings import Origin
from serving.apis.tensors import Array
from serving.embedded.admission.samples import Sample, Spare
from serving.embedded.inference.exchange import Tensors
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine, find_signature, planned
from serving.embedded.models.versions import Version
from serving.errors import InvalidArgument, ServingError

log = logging.getLogger(__name__)

MAX_HELD_BYTES = 8 * 2**20
MAX_WAITING = 256
# Samples are gathered for so long: each time that the thread wakes up costs the event loop as much as a comparison.
_GATHER_SECONDS = 0.1
# A run that takes longer is told of in the log: nothing is compared until it ends.
_HANGING_SECONDS = 60.0
# Of outputs without classes.
_TOLERANCE = 1e-5
NOT_FINITE = "NaN"

AGREED, DISAGREED, FAILED, DROPPED = "agreed", "disagreed", "failed", "dropped"


class Counts(Protocol):
    """Where the results go. model: a model's name."""

    def shadow_request(self, model: str, outcome: str) -> None:
        """A request with one of the four outcomes."""

    def shadow_rows(self, model: str, agreed: int, pairs: Mapping[tuple[str, str], int]) -> None:
        """The rows of a request that agreed, and those that did not by the served and the shadow's class."""

    def shadow_run(self, model: str, role: str, seconds: float) -> None:
        """A run of the version that is `served`, or of the `shadow`."""


class Shadow:
    """Lives on the event loop, but for its thread. label: of the other version. rate: the share of the requests.

    spare: what pays for what is held. call_soon: does something on the event loop.
    """

    def __init__(
        self,
        engine: Engine,
        label: str,
        rate: float,
        spare: Spare,
        call_soon: Callable[[Callable[[], object]], object],
        counts: Counts,
    ) -> None:
        self._engine = engine
        self._label = label
        self._rate = rate
        self._spare = spare
        self._call_soon = call_soon
        self._counts = counts
        self._queue: collections.deque[Sample] = collections.deque()
        self._wake = threading.Event()
        self._is_closing = False
        # When the run under way began, and whether it was told of.
        self._begin = 0.0
        self._is_told = False
        self._served_first = False
        # In an event loop, though nothing is awaited: LiteRT then takes none of the places that are for threads.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="shadow", daemon=True)
        self._thread.start()

    def sample(self, model: str) -> Sample | None:
        """What to keep of a request to a model, or None: most are not chosen."""
        return Sample(self._spare, model) if random() < self._rate else None  # noqa: S311 - a sample

    def end(self, sample: Sample, origin: Origin | None, _: float) -> None:
        """Has it compared, or lets go of it. origin: None for a request that failed."""
        is_predict = isinstance(sample.inputs, Tensors)
        if origin is None or not (is_predict or sample.is_dropped):
            self._spare.release(sample.let_go())
        elif sample.is_dropped or len(self._queue) >= MAX_WAITING:
            self._spare.release(sample.let_go())
            self._counts.shadow_request(sample.model, DROPPED)
            self._tell_of_hanging(sample.model)
        else:
            self._queue.append(sample)
            if not self._wake.is_set():
                self._wake.set()

    def close(self) -> None:
        """Begins nothing any more; a run under way is not waited for."""
        self._is_closing = True
        self._wake.set()

    def _tell_of_hanging(self, model: str) -> None:
        if self._begin and not self._is_told and time.monotonic() - self._begin > _HANGING_SECONDS:
            self._is_told = True
            log.warning(
                "A run of model %s for --shadow_label=%s has not ended for %.0f s: nothing is compared until it does",
                model, self._label, _HANGING_SECONDS,
            )  # fmt: skip

    async def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait()
            time.sleep(_GATHER_SECONDS)
            self._wake.clear()
            begin, size = time.monotonic(), 0
            while self._queue and not self._is_closing:
                size += self._end_one(self._queue.popleft())
            self._call_soon(partial(self._spare.release, size))
            # As long as it has worked, others have the processor.
            time.sleep(time.monotonic() - begin)

    def _end_one(self, sample: Sample) -> int:
        """Compares one; gives the bytes that it held."""
        self._begin = time.monotonic()
        try:
            outcome = self._compared(sample)
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            log.info("The shadow of a request to model %s failed: %s", sample.model, error)
            outcome = FAILED
        self._begin, self._is_told = 0.0, False
        if outcome:
            self._counts.shadow_request(sample.model, outcome)
        return sample.let_go()

    def _compared(self, sample: Sample) -> str:
        """The outcome; an empty text where there is no other version. Raises ServingError, and what the model does."""
        assert sample.spec is not None
        assert isinstance(sample.response, Tensors)
        try:
            version = self._engine.use(ModelSpec(name=sample.model, version_label=self._label))
        except InvalidArgument:
            # The model has no such label: between two rollouts it has not.
            return ""
        with version:
            if version.number == sample.spec.version.value:
                return ""
            self._served_first = not self._served_first
            if self._served_first:
                self._time_served(sample)
            outputs, seconds = self._timed(version, sample)
        if not self._served_first:
            self._time_served(sample)
        self._counts.shadow_run(sample.model, "shadow", seconds)
        agreed, pairs = compared(sample.response.arrays, outputs)
        self._counts.shadow_rows(sample.model, agreed, pairs)
        return DISAGREED if pairs else AGREED

    def _time_served(self, sample: Sample) -> None:
        """Runs it once more on the version that has answered, under the same conditions, if that is still there."""
        assert sample.spec is not None
        spec = ModelSpec(name=sample.model)
        spec.version.value = sample.spec.version.value
        try:
            version = self._engine.use(spec)
        except ServingError:
            return
        with version:
            self._counts.shadow_run(sample.model, "served", self._timed(version, sample)[1])

    def _timed(self, version: Version[LoadedModel], sample: Sample) -> tuple[dict[str, Array], float]:
        """What a version gives for a request, by alias, and the seconds of its run."""
        assert sample.spec is not None
        assert isinstance(sample.inputs, Tensors)
        assert isinstance(sample.response, Tensors)
        signature = find_signature(self._engine, version, sample.spec.signature_name)
        aliases = tuple(sample.response.arrays)
        plan = planned(self._engine, version, signature, sample.inputs.arrays, aliases, None)
        begin = time.perf_counter()
        values = version.servable.run(plan.run.feeds, plan.run.fetches)
        seconds = time.perf_counter() - begin
        return dict(zip(plan.aliases, values, strict=True)), seconds


def compared(served: Mapping[str, Array], shadow: Mapping[str, Array]) -> tuple[int, dict[tuple[str, str], int]]:
    """How many rows agree, and how many do not by their classes, the served and the shadow's.

    Rows agree when they have the same class; where the outputs have no classes, when they are equal, floats within
    1e-5. What is not finite agrees with nothing, and has the class NaN.
    """
    rows, others = classes(served), classes(shadow)
    if rows is None or others is None:
        equal = _equal_rows(served, shadow)
        rows, others = [""] * len(equal), ["" if each else "other" for each in equal]
    if len(rows) != len(others):
        return 0, {("", "other"): len(rows)}
    pairs = collections.Counter(zip(rows, others, strict=True))
    agreed = sum(count for (row, other), count in pairs.items() if row == other != NOT_FINITE)
    return agreed, {pair: count for pair, count in pairs.items() if pair[0] != pair[1] or pair[0] == NOT_FINITE}


def classes(outputs: Mapping[str, Array]) -> list[str] | None:
    """The class of each row: its name, else its number, else the place of its largest score. None without any."""
    names, ids = outputs.get("class_names"), outputs.get("class_ids")
    scores = outputs.get("probabilities", outputs.get("scores"))
    if scores is None and len(outputs) == 1:
        (scores,) = outputs.values()
    if names is not None and names.ndim == 1:
        rows = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
    elif ids is not None and ids.ndim == 1:
        rows = [str(number) for number in ids.tolist()]
    elif scores is not None and scores.ndim == 2 and scores.shape[1] > 1 and scores.dtype.kind == "f":  # noqa: PLR2004
        rows = [str(number) for number in scores.argmax(axis=1).tolist()]
    else:
        return None
    is_finite = _finite_rows(outputs, len(rows))
    return [row if finite else NOT_FINITE for row, finite in zip(rows, is_finite, strict=True)]


def _finite_rows(outputs: Mapping[str, Array], count: int) -> list[bool]:
    is_finite = np.ones(count, bool)
    for array in outputs.values():
        if array.dtype.kind == "f" and array.ndim and len(array) == count:
            is_finite &= np.isfinite(array.reshape(count, -1)).all(axis=1)
    return is_finite.tolist()


def _equal_rows(served: Mapping[str, Array], shadow: Mapping[str, Array]) -> list[bool]:
    """Of outputs that are not of one length, or not of one shape in both, one row, which is equal or not."""
    lengths = {len(array) if array.ndim else 0 for array in served.values()}
    count = lengths.pop() if len(lengths) == 1 else 0
    if any(served[name].shape != shadow[name].shape for name in served):
        return [False] * max(1, count)
    is_equal = np.ones(max(1, count), bool)
    for name, array in served.items():
        if array.dtype.kind == "f":
            same = np.isclose(array, shadow[name], rtol=0, atol=_TOLERANCE)
        else:
            same = np.asarray(array == shadow[name])
        is_equal &= same.reshape(count, -1).all(axis=1) if count else bool(same.all())
    return is_equal.tolist()
