"""Model warmup: requests that are replayed before a version becomes AVAILABLE, so that the first client need not wait.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from google.protobuf.message import DecodeError

from fashion_common.layout import MAX_WARMUP_RECORDS, WARMUP_FILE
from serving.apis import tensors
from serving.apis.messages import ModelSpec, PredictionLog, SessionRunRequest
from serving.embedded.inference.examples import ExampleInference
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import PredictCall, Predictor
from serving.embedded.inference.runner import Run
from serving.embedded.inference.servable import Array
from serving.embedded.limits import Limits
from serving.embedded.models.versions import Version
from serving.errors import InvalidArgument, ServingError

# What comes with the model is held to no limit of its clients'.
_LIMITS = Limits(max_tensor_bytes=tensors.MAX_TENSOR_BYTES)


class _Loaded:
    """A version that is loaded but not served yet: every request is for it, and runs at once."""

    def __init__(self, version: Version[LoadedModel]) -> None:
        self._version = version

    def use(self, _spec: ModelSpec) -> Version[LoadedModel]:
        """The version, whatever a recorded request says."""
        self._version.use()
        return self._version

    async def run(self, run: Run) -> list[Array]:
        """Runs in this thread."""
        return run.version.servable.run(run.feeds, run.fetches)


def warm_up(version: Version[LoadedModel], records: Callable[[Path], Iterable[bytes]], iterations: int = 1) -> int:
    """Replays the requests in a version's warmup file, each `iterations` times; gives their number, 0 without a file.

    Raises ServingError for a file with a bad record, a request that fails, or more than 1000 records.
    """
    file = version.directory.file(WARMUP_FILE)
    if file is None:
        return 0
    return asyncio.run(_replay(_Loaded(version), file, records(file), iterations))


async def _replay(loaded: _Loaded, file: Path, records: Iterable[bytes], iterations: int) -> int:
    count = 0
    for record in records:
        count += 1
        if count > MAX_WARMUP_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
        log = _parsed(record, file)
        try:
            for _ in range(iterations):
                await _run(loaded, log)
        except ServingError as error:
            raise ServingError(f"Warmup request {count} of {file} failed: {error}", error.code) from error
    return count


def _parsed(record: bytes, file: Path) -> PredictionLog:
    try:
        log = PredictionLog.FromString(record)
    except DecodeError as error:
        raise InvalidArgument(f"Failed to parse warmup record: {record[:80]!r} from {file}") from error
    assert isinstance(log, PredictionLog)
    return log


async def _run(loaded: _Loaded, log: PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    examples = ExampleInference(loaded, loaded)
    if kind == "predict_log":
        request = log.predict_log.request
        call = PredictCall(request.model_spec, request.inputs, request.output_filter)
        await Predictor(loaded, loaded, _LIMITS).predict(call)
    elif kind == "classify_log":
        await examples.classify(log.classify_log.request)
    elif kind == "regress_log":
        await examples.regress(log.regress_log.request)
    elif kind == "multi_inference_log":
        await examples.multi_inference(log.multi_inference_log.request)
    elif kind == "session_run_log":
        await _run_session(loaded, log.session_run_log.request)
    else:
        raise InvalidArgument(f"Unsupported log_type for warmup: {kind}")


async def _run_session(loaded: _Loaded, request: SessionRunRequest) -> None:
    with loaded.use(request.model_spec) as version:
        feeds = {feed.name: tensors.make_ndarray(feed.tensor) for feed in request.feed}
        await loaded.run(Run(version, feeds, tuple(request.fetch)))
