"""The requests that TensorFlow Serving replays before a version becomes AVAILABLE, so that no client's is the first.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from google.protobuf import text_format

from fashion_common.layout import MAX_WARMUP_RECORDS
from fashion_common.served_model import SIGNATURES
from serving.apis.messages import (
    BatchingParameters,
    ClassificationRequest,
    ClassifyLog,
    ModelSpec,
    PredictionLog,
    PredictLog,
    PredictRequest,
)
from serving.apis.recordings import exchange, read_recording
from serving.apis.tensors import data_type_name
from serving.apis.tfrecord import framed
from training.errors import TrainingUsageError

_GREATEST = 128


def batch_sizes(batching_config: Path) -> list[int]:
    """The batch sizes that a server with this configuration runs: `allowed_batch_sizes`, else 1 and the greatest.

    The greatest is 128 at most: larger batches run the same code, and every warmup request is replayed at each load.

    Raises TrainingUsageError when the file cannot be read as BatchingParameters in text protobuf.
    """
    try:
        # Read leniently, since the server is the one that checks it: fields of a newer server's are passed over.
        text = batching_config.read_text(encoding="utf-8")
        parameters = text_format.Parse(text, BatchingParameters(), allow_unknown_field=True)
    except OSError as error:
        raise TrainingUsageError(f"Cannot read {batching_config}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TrainingUsageError(f"{batching_config} is not BatchingParameters in text protobuf: {error}") from error
    sizes = sorted(set(parameters.allowed_batch_sizes) or {1, min(parameters.max_batch_size.value or 1, _GREATEST)})
    if sizes[0] < 1:
        raise TrainingUsageError(f"{batching_config} has the batch size {sizes[0]}: at least 1")
    return sizes


def write_warmup(
    path: Path,
    model_name: str,
    make: Callable[[str, int], Iterable[PredictionLog]],
    sizes: Sequence[int],
    recordings: Sequence[Path] = (),
) -> int:
    """Writes the TFRecord file and gives the number of its records: every signature with every batch size.

    make: gives the requests of a model's name and a batch size. recordings: the first answered request of each
    signature and batch size takes the place of the one that would be made, or is added as long as there is room. Raises
    OSError, RecordingError, and TrainingUsageError for more records than TF Serving takes, or recordings without a
    request that is of use.
    """
    records = {(_signature(record), size): record for size in sizes for record in make(model_name, size)}
    if len(records) > MAX_WARMUP_RECORDS:
        raise TrainingUsageError(
            f"{len(sizes)} batch sizes make {len(records)} warmup requests: "
            f"TensorFlow Serving takes {MAX_WARMUP_RECORDS}"
        )
    recorded: set[tuple[str, int]] = set()
    for key, record in _recorded(model_name, recordings):
        if key not in recorded and (key in records or len(records) < MAX_WARMUP_RECORDS):
            recorded.add(key)
            records[key] = record
    if recordings and not recorded:
        raise TrainingUsageError(
            f"no answered request of the served signatures in {', '.join(map(str, recordings))}: "
            "--warmup-from takes recordings of this model"
        )
    path.parent.mkdir(exist_ok=True)
    # A signature with a fixed number of rows has the same request for every size.
    contents = dict.fromkeys(record.SerializeToString(deterministic=True) for record in records.values())
    path.write_bytes(b"".join(map(framed, contents)))
    return len(contents)


def _recorded(model_name: str, recordings: Sequence[Path]) -> Iterator[tuple[tuple[str, int], PredictionLog]]:
    """The recorded requests that this model can answer, by signature and batch size, as warmup requests.

    One that fails would fail the load of the version: what was not answered, or is of other signatures, is left out.
    """
    for path in recordings:
        for log in read_recording(path):
            record = _classify_request(log) if log.HasField("classify_log") else _predict_request(log)
            if record:
                size, warmup = record
                spec = exchange(warmup).request.model_spec
                spec.name = model_name
                yield (spec.signature_name, size), warmup


def _predict_request(log: PredictionLog) -> tuple[int, PredictionLog] | None:
    request = log.predict_log.request
    signature = request.model_spec.signature_name or "serving_default"
    expected = SIGNATURES.get(signature)
    if expected is None or signature == "classify" or set(request.inputs) != {expected.name}:
        return None
    tensor = request.inputs[expected.name]
    size, *rest = [dim.size for dim in tensor.tensor_shape.dim] or [0]
    fits = data_type_name(tensor.dtype) == expected.dtype and tuple(rest) == expected.shape[1:]
    if size < 1 or not fits or not log.predict_log.response.outputs:
        return None
    spec = ModelSpec(signature_name=signature)
    inputs = {expected.name: tensor}
    return size, PredictionLog(predict_log=PredictLog(request=PredictRequest(model_spec=spec, inputs=inputs)))


def _classify_request(log: PredictionLog) -> tuple[int, PredictionLog] | None:
    request = log.classify_log.request
    size = len(log.classify_log.response.result.classifications)
    if request.model_spec.signature_name != "classify" or not size or not request.HasField("input"):
        return None
    spec = ModelSpec(signature_name="classify")
    return size, PredictionLog(
        classify_log=ClassifyLog(request=ClassificationRequest(model_spec=spec, input=request.input))
    )


def _signature(record: PredictionLog) -> str:
    name: str = exchange(record).request.model_spec.signature_name
    return name
