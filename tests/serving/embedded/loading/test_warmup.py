"""Warmup and self-test, with a servable that is no model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from fashion_common.layout import MANIFEST_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.apis.messages import PredictionLog, SignatureDef
from serving.apis.recording_files import RecordingFile
from serving.apis.status import Code
from serving.embedded.inference.batch_queue import BatchingOptions
from serving.embedded.inference.model import Servable
from serving.embedded.loading.load import version_load
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, InvalidArgument, ServingError
from tests.support.records import predict_log
from tests.support.tfrecords import write_records

Array = npt.NDArray[Any]

SIGNATURE = text_format.Parse(
    """
    inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT } }
    outputs { key: "y" value { name: "y:0" dtype: DT_FLOAT } }
    outputs { key: "name" value { name: "name:0" dtype: DT_STRING } }
    """,
    SignatureDef(),
)
EXAMPLES = text_format.Parse(
    """
    inputs { key: "inputs" value { name: "e:0" dtype: DT_STRING } }
    outputs { key: "outputs" value { name: "v:0" dtype: DT_FLOAT } }
    """,
    SignatureDef(),
)
CLASSES = text_format.Parse(
    """
    inputs { key: "inputs" value { name: "e:0" dtype: DT_STRING } }
    outputs { key: "scores" value { name: "s:0" dtype: DT_FLOAT } }
    """,
    SignatureDef(),
)
PREDICT = "predict_log { request { inputs { key: 'x' value { dtype: DT_FLOAT tensor_shape {} float_val: 1 } } } }"
REGRESS = """
regress_log { request { model_spec { name: "any" signature_name: "regress" } input { example_list { examples {} } } } }
"""
CLASSIFY = """
classify_log {
  request { model_spec { name: "any" signature_name: "classify" } input { example_list { examples {} } } }
}
"""
MULTI_INFERENCE = """
multi_inference_log {
  request {
    tasks { model_spec { name: "any" signature_name: "classify" } method_name: "tensorflow/serving/classify" }
    tasks { model_spec { name: "any" signature_name: "regress" } method_name: "tensorflow/serving/regress" }
    input { example_list { examples {} } }
  }
}
"""
SESSION_RUN = "session_run_log { request { feed { name: 'x:0' tensor { dtype: DT_FLOAT } } fetch: 'y:0' } }"


class Recorder:
    """y = x; remembers what ran and whether it was closed."""

    def __init__(self) -> None:
        self.signatures: Mapping[str, SignatureDef] = {
            "serving_default": SIGNATURE, "regress": EXAMPLES, "classify": CLASSES,
        }  # fmt: skip
        self.fetched: list[tuple[str, ...]] = []
        self.loop_free: frozenset[str] = frozenset()
        self.runtime = "none"
        self.closed = False
        self.broken = False

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """What is fed, for every fetch."""
        self.fetched.append(tuple(fetches))
        if self.broken and fetches[0] != "fine:0":
            raise InvalidArgument("no such thing")
        value = feeds.get("x:0", np.zeros(1, np.float32))
        values = {"name:0": np.array([b"a", b""], object), "s:0": np.zeros((1, 1), np.float32)}
        return [values.get(fetch, value) for fetch in fetches]

    def close(self) -> None:
        """Remembers it."""
        self.closed = True


def load(
    path: Path,
    logs: list[str] | None = None,
    *,
    iterations: int = 1,
    raw: bytes | None = None,
    broken: bool = False,
) -> Recorder:
    """Loads a version whose warmup file holds these logs. broken: all that it gives but `fine:0` fails."""
    servable = Recorder()
    servable.broken = broken
    records = [text_format.Parse(log, PredictionLog()).SerializeToString() for log in logs or []]
    if logs or raw:
        write_records(path / WARMUP_FILE, [raw] if raw else records)

    def give(_: VersionDirectory) -> Servable:
        return servable

    try:
        load_version = version_load(give, iterations=iterations)
        load_version("m", 1, VersionDirectory(path))
    except ServingError:
        assert servable.closed, "a version that fails must not stay open"
        raise
    return servable


# What each kind of PredictionLog fetches.
KINDS = {
    "predict_log": (PREDICT, ("name:0", "y:0")),
    "classify_log": (CLASSIFY, ("s:0",)),
    "regress_log": (REGRESS, ("v:0",)),
    "multi_inference_log": (MULTI_INFERENCE, ("s:0", "v:0")),
    "session_run_log": (SESSION_RUN, ("y:0",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_request_is_replayed(tmp_path: Path, kind: str) -> None:
    """As often as asked for, before the version serves."""
    log, fetches = KINDS[kind]

    servable = load(tmp_path, [log], iterations=2)

    assert servable.fetched == [fetches] * 2
    assert not servable.closed


def test_a_recording_is_a_warmup_file(tmp_path: Path) -> None:
    """Whatever model and version its records name."""
    with RecordingFile(tmp_path / WARMUP_FILE) as file:
        for number in range(3):
            file.write(predict_log(number))
    assert load(tmp_path).fetched == [("name:0", "y:0")] * 3


def test_these_are_all_kinds() -> None:
    """But for streamed ones, which TF Serving does not replay either."""
    kinds = {field.name for field in PredictionLog.DESCRIPTOR.oneofs_by_name["log_type"].fields}
    assert kinds == {*KINDS, "predict_streamed_log"}


def test_requests_are_replayed_in_order_each_as_often_as_asked(tmp_path: Path) -> None:
    """Not at all by 0."""
    logs = [log for log, _ in KINDS.values()]

    assert load(tmp_path, logs, iterations=3).fetched == [each for _, each in KINDS.values() for _ in range(3)]
    assert load(tmp_path, logs, iterations=0).fetched == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_of_any_kind_that_fails_fails_the_load(tmp_path: Path, kind: str) -> None:
    """With the model's own words."""
    log, _ = KINDS[kind]

    with pytest.raises(ServingError, match=r"^Warmup request 2 of .* failed: no such thing$"):
        load(tmp_path, [SESSION_RUN.replace("'y:0'", "'fine:0'"), log], broken=True)


def test_as_many_requests_as_there_may_be(tmp_path: Path) -> None:
    """Exactly the limit passes; one more is among the bad files below."""
    assert len(load(tmp_path, [SESSION_RUN] * 1000).fetched) == 1000


@pytest.mark.parametrize(
    ("logs", "raw", "message"),
    [
        ([PREDICT.replace("'x'", "'z'")], None, "^Warmup request 1 of .* failed: Signature input alias: x"),
        ([PREDICT] * 1001, None, r"^Number of warmup records exceeds the maximum \(1000\) at /.*_requests$"),
        (["log_metadata {}"], None, "^Warmup request 1 of .* failed: Unsupported log_type for warmup: None$"),
        (["predict_streamed_log {}"], None, "failed: Unsupported log_type for warmup: predict_streamed_log$"),
        (None, b"\xff" * 81, r"^Failed to parse warmup record: b'(\\xff){80}' from /.*_requests$"),
    ],
    ids=["wrong input", "too many", "no kind", "streamed", "garbage"],
)
def test_a_bad_record_fails_the_load(tmp_path: Path, logs: list[str] | None, raw: bytes | None, message: str) -> None:
    """With what was wrong, and the servable closed."""
    with pytest.raises(ServingError, match=message) as raised:
        load(tmp_path, logs, raw=raw)
    assert raised.value.code == Code.INVALID_ARGUMENT


def golden(path: Path, **arrays: Array) -> None:
    """Writes an archive; __ stands for /."""
    (path / SELF_TEST_FILE).parent.mkdir()
    np.savez(path / SELF_TEST_FILE, **{name.replace("__", "/"): array for name, array in arrays.items()})  # type: ignore[arg-type]


X = np.array([1.0, 2.0], np.float32)


def test_a_self_test_that_passes(tmp_path: Path) -> None:
    """Numbers within the tolerance, strings exactly; outputs that are not in the archive do not matter."""
    golden(
        tmp_path,
        serving_default__inputs__x=X,
        serving_default__outputs__y=X + np.float32(5e-6),
        serving_default__outputs__name__bytes=np.frombuffer(b"a", np.uint8),
        serving_default__outputs__name__lengths=np.array([1, 0]),
    )

    assert load(tmp_path).fetched == [("y:0", "name:0")]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"serving_default__outputs__y": X + np.float32(2e-5)}, "output y of serving_default differs by up to 2e-05"),
        ({"serving_default__outputs__y": X * np.float32(np.nan)}, "output y of serving_default differs by up to nan"),
        ({"serving_default__outputs__y": X.astype(np.float64)}, r"is float32 \[2\]: expected float64 \[2\]"),
        ({"serving_default__outputs__y": X[:1]}, r"is float32 \[2\]: expected float32 \[1\]"),
        ({"serving_default__outputs__z": X}, "signature serving_default has no output z"),
        (
            {"serving_default__inputs__w": X, "serving_default__inputs__v": X},
            "signature serving_default has no input v$",
        ),
        ({"other__inputs__x": X}, "the model has no signature other$"),
        (
            {
                "serving_default__outputs__name__bytes": np.frombuffer(b"a", np.uint8),
                "serving_default__outputs__name__lengths": np.array([0, 1]),
            },
            "output name of serving_default differs in 2 of 2 elements",
        ),
    ],
    ids=["value", "nan", "dtype", "shape", "output", "input", "signature", "string"],
)
def test_a_self_test_that_fails(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    """The version does not serve, and the text has what differs."""
    inputs = {} if "other__inputs__x" in arrays else {"serving_default__inputs__x": X}
    golden(tmp_path, **inputs, **arrays)

    with pytest.raises(FailedPrecondition, match=rf"^Self-test {tmp_path / SELF_TEST_FILE}: .*{message}"):
        load(tmp_path)


@pytest.mark.parametrize(("cut", "reason"), [(True, "truncated record at 20"), (False, "corrupted record at 0")])
def test_a_damaged_warmup_file(tmp_path: Path, cut: bool, reason: str) -> None:
    """One that is cut, or differs in a byte: the text says what to do."""
    file = tmp_path / WARMUP_FILE
    write_records(file, [b"a record"])
    content = file.read_bytes()
    file.write_bytes(content[:-1] if cut else b"\xff" + content[1:])

    with pytest.raises(ServingError, match=rf"{reason}: copy the file again$") as error:
        load(tmp_path)
    assert error.value.code == Code.DATA_LOSS


def test_an_archive_that_cannot_be_read(tmp_path: Path) -> None:
    """It fails the load too."""
    (tmp_path / SELF_TEST_FILE).parent.mkdir()
    (tmp_path / SELF_TEST_FILE).write_bytes(b"no zip")

    with pytest.raises(FailedPrecondition, match=rf"^Self-test {tmp_path / SELF_TEST_FILE} cannot be read: "):
        load(tmp_path)


@pytest.mark.parametrize("has_manifest", [True, False])
def test_files_that_change_while_they_are_loaded(tmp_path: Path, has_manifest: bool) -> None:
    """What was checked is not what was loaded; without a manifest nothing was checked."""
    graph, servable = tmp_path / "saved_model.pb", Recorder()
    graph.write_bytes(b"graph")
    if has_manifest:
        recorded = {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
        (tmp_path / MANIFEST_FILE).parent.mkdir()
        (tmp_path / MANIFEST_FILE).write_text(json.dumps({"files": {"saved_model.pb": recorded}}))

    def change(_: VersionDirectory) -> Servable:
        graph.write_bytes(b"other graph")
        return servable

    load_version = version_load(change)
    if not has_manifest:
        load_version("m", 1, VersionDirectory(tmp_path))
        return
    with pytest.raises(FailedPrecondition, match="files changed while it was loaded"):
        load_version("m", 1, VersionDirectory(tmp_path))
    assert servable.closed


def test_a_warmup_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the system's reason."""
    write_records(tmp_path / WARMUP_FILE, [b""])
    opened: Any = Path.open

    def denied(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == tmp_path / WARMUP_FILE:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ServingError) as raised:
        load(tmp_path)
    assert str(raised.value) == f"{tmp_path / WARMUP_FILE} cannot be read: Permission denied"
    assert raised.value.code == Code.FAILED_PRECONDITION


def test_what_a_version_needs_where_proof_is_required(tmp_path: Path) -> None:
    """A manifest, and then a self-test; nothing is loaded without them."""
    loads: list[VersionDirectory] = []

    def give(directory: VersionDirectory) -> Servable:
        loads.append(directory)
        return Recorder()

    load_version = version_load(give, require_manifest=True)
    graph = tmp_path / "saved_model.pb"
    graph.write_bytes(b"graph")
    for missing in (MANIFEST_FILE, SELF_TEST_FILE):
        with pytest.raises(FailedPrecondition) as raised:
            load_version("m", 1, VersionDirectory(tmp_path))
        assert str(raised.value) == f"The version has no {missing}, without which --require_manifest serves none"
        (tmp_path / MANIFEST_FILE).parent.mkdir(exist_ok=True)
        recorded = {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
        (tmp_path / MANIFEST_FILE).write_text(json.dumps({"files": {"saved_model.pb": recorded}}))
    assert loads == []


def test_a_loaded_version_knows_what_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its name, number and batching; whoever checks signatures is asked first; the log sums its start up."""
    caplog.set_level(logging.INFO)
    golden(tmp_path, serving_default__inputs__x=X, serving_default__outputs__y=X)
    write_records(tmp_path / WARMUP_FILE, [text_format.Parse(PREDICT, PredictionLog()).SerializeToString()] * 2)
    directory, asked = VersionDirectory(tmp_path), list[str]()
    options = BatchingOptions(7)

    def batching(given: VersionDirectory) -> BatchingOptions:
        assert given is directory
        asked.append("batching")
        return options

    def give(given: VersionDirectory) -> Servable:
        assert given is directory
        asked.append("runtime")
        return Recorder()

    def check(given: VersionDirectory) -> None:
        assert given is directory
        asked.append("signature")

    model = version_load(give, batching, check_signature=check)("m", 7, directory)
    assert asked == ["signature", "batching", "runtime"]
    assert (model.name, model.number, model.batching) == ("m", 7, options)
    assert caplog.messages == ["m version 7: 2 warmup requests, self-test of ['serving_default']"]
    caplog.clear()
    (tmp_path / SELF_TEST_FILE).unlink()
    bare = version_load(give, iterations=0)("n", 1, directory)
    assert bare.batching is None
    assert caplog.messages == ["n version 1: 0 warmup requests, self-test of nothing"]


def test_what_comes_with_a_model_may_be_larger_than_a_request(tmp_path: Path) -> None:
    """No limit of clients' holds for it."""
    log = PredictionLog()
    tensor = log.predict_log.request.inputs["x"]
    tensor.dtype, tensor.tensor_content = 1, bytes(4 * 2**20)
    tensor.tensor_shape.dim.add(size=2**20)
    write_records(tmp_path / WARMUP_FILE, [log.SerializeToString()])
    assert load(tmp_path).fetched == [("name:0", "y:0")]
