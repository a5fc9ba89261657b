"""Model warmup: requests that are replayed before a version becomes AVAILABLE, so that the first client need not wait.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from fashion_common.layout import MAX_WARMUP_RECORDS, WARMUP_FILE
from serving.apis import tensors
from serving.apis.messages import ModelSpec, PredictionLog
from serving.apis.status import Code
from serving.apis.tensors import Array
from serving.apis.tfrecord import RecordError, read_records
from serving.embedded.inference import examples
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine, predict
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.versions import Version
from serving.errors import InvalidArgument, ServingError

# What comes with the model is held to no limit of its clients'.
_LIMITS = Limits(max_tensor_bytes=tensors.MAX_TENSOR_BYTES)


def warm_up(version: Version[LoadedModel], iterations: int = 1) -> int:
    """Replays the requests in a version's warmup file, each `iterations` times; gives their number, 0 without a file.

    Raises ServingError for a file with a bad record, a request that fails, or more records than TF Serving takes.
    """
    file = version.directory.file(WARMUP_FILE)
    return 0 if file is None else asyncio.run(_replay(version, file, iterations))


async def _replay(version: Version[LoadedModel], file: Path, iterations: int) -> int:
    def use(_: ModelSpec) -> Version[LoadedModel]:
        """The version, whatever a recorded request says."""
        version.use()
        return version

    engine = Engine(use, _run, _LIMITS)
    count = 0
    for record in _records(file):
        count += 1
        if count > MAX_WARMUP_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise InvalidArgument(f"Failed to parse warmup record: {record[:80]!r} from {file}") from error
        try:
            for _ in range(iterations):
                await _answer(engine, version, log)
        except ServingError as error:
            raise ServingError(f"Warmup request {count} of {file} failed: {error}", error.code) from error
    return count


def _records(file: Path) -> Iterator[bytes]:
    """The file's records. Raises ServingError: DATA_LOSS for a file that is damaged or cut."""
    try:
        yield from read_records(file)
    except RecordError as error:
        raise ServingError(f"{error}: copy the file again", Code.DATA_LOSS) from error
    except OSError as error:
        raise ServingError(f"{file} cannot be read: {error.strerror}", Code.FAILED_PRECONDITION) from error


async def _run(run: Run) -> list[Array]:
    return run.version.servable.run(run.feeds, run.fetches)


async def _answer(engine: Engine, version: Version[LoadedModel], log: PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        await predict(engine, version, request.model_spec.signature_name, request.inputs, request.output_filter)
    elif kind == "classify_log":
        await examples.classify(engine, log.classify_log.request)
    elif kind == "regress_log":
        await examples.regress(engine, log.regress_log.request)
    elif kind == "multi_inference_log":
        await examples.multi_inference(engine, log.multi_inference_log.request)
    elif kind == "session_run_log":
        session_run = log.session_run_log.request
        feeds = {feed.name: tensors.make_ndarray(feed.tensor) for feed in session_run.feed}
        version.servable.run(feeds, session_run.fetch)
    else:
        raise InvalidArgument(f"Unsupported log_type for warmup: {kind}")
