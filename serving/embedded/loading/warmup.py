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
from serving.apis.messages import ModelSpec, PredictionLog
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


class _Replay:
    """Answers recorded requests on a version that is not served yet.

    To the code that answers requests it is core and runner: every request is for this version, and runs at once.
    """

    def __init__(self, version: Version[LoadedModel]) -> None:
        self._version = version
        self._predictor = Predictor(self, self, _LIMITS)
        self._examples = ExampleInference(self, self)

    def use(self, _spec: ModelSpec) -> Version[LoadedModel]:
        """The version, whatever a recorded request says."""
        self._version.use()
        return self._version

    async def run(self, run: Run) -> list[Array]:
        """Runs in this thread."""
        return run.version.servable.run(run.feeds, run.fetches)

    async def answer(self, log: PredictionLog) -> None:
        """Answers one request. Raises ServingError."""
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            request = log.predict_log.request
            await self._predictor.predict(PredictCall(request.model_spec, request.inputs, request.output_filter))
        elif kind == "classify_log":
            await self._examples.classify(log.classify_log.request)
        elif kind == "regress_log":
            await self._examples.regress(log.regress_log.request)
        elif kind == "multi_inference_log":
            await self._examples.multi_inference(log.multi_inference_log.request)
        elif kind == "session_run_log":
            session_run = log.session_run_log.request
            feeds = {feed.name: tensors.make_ndarray(feed.tensor) for feed in session_run.feed}
            await self.run(Run(self._version, feeds, tuple(session_run.fetch)))
        else:
            raise InvalidArgument(f"Unsupported log_type for warmup: {kind}")


def warm_up(version: Version[LoadedModel], records: Callable[[Path], Iterable[bytes]], iterations: int = 1) -> int:
    """Replays the requests in a version's warmup file, each `iterations` times; gives their number, 0 without a file.

    Raises ServingError for a file with a bad record, a request that fails, or more records than TF Serving takes.
    """
    file = version.directory.file(WARMUP_FILE)
    return 0 if file is None else asyncio.run(_replay(_Replay(version), file, records(file), iterations))


async def _replay(replay: _Replay, file: Path, records: Iterable[bytes], iterations: int) -> int:
    count = 0
    for record in records:
        count += 1
        if count > MAX_WARMUP_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise InvalidArgument(f"Failed to parse warmup record: {record[:80]!r} from {file}") from error
        try:
            for _ in range(iterations):
                await replay.answer(log)
        except ServingError as error:
            raise ServingError(f"Warmup request {count} of {file} failed: {error}", error.code) from error
    return count
