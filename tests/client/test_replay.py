"""Recordings as requests, in memory: which can be sent, when they are due, whether an answer is the recorded one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from client.errors import ClientUsageError, ServerError, server_error
from client.replay import Kind, Replayer, address, agrees, nothing_to_send, recorded_pace, records
from client.types import ModelSpec
from serving.apis import messages
from serving.apis.recordings import RecordingError
from serving.apis.tensors import make_tensor_proto
from tests.support.records import predict_log
from tests.support.tfrecords import write_records


def _write(path: Path, *logs: messages.PredictionLog) -> Path:
    write_records(path, [log.SerializeToString() for log in logs])
    return path


def _times(*paths: Path) -> list[int]:
    return [log.log_metadata.timestamp_secs - 1_700_000_000 for log in records(paths, Counter())]


def test_recordings_are_merged_by_time(tmp_path: Path) -> None:
    """As several workers write them, each in the order of time."""
    first = _write(tmp_path / "a", *map(predict_log, (1, 4, 5)))
    second = _write(tmp_path / "b", *map(predict_log, (2, 3, 6)))
    assert _times(first, second) == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_sent_is_counted_by_the_reason(tmp_path: Path) -> None:
    """Records of answers only, and those of other kinds."""
    answer_only = predict_log(1)
    answer_only.predict_log.request.ClearField("inputs")
    session = messages.PredictionLog(session_run_log=messages.SessionRunLog())
    streamed = messages.PredictionLog(predict_streamed_log=messages.PredictStreamedLog())
    path = _write(tmp_path / "a", answer_only, session, streamed, predict_log(2), answer_only)
    passed_over: Counter[str] = Counter()
    [log] = records([path], passed_over)
    assert log == predict_log(2)
    assert passed_over == {
        "without inputs": 2, "of the kind session_run_log": 1, "of the kind predict_streamed_log": 1,
    }  # fmt: skip


def test_a_torn_end_is_passed_over_and_damage_is_an_error(tmp_path: Path) -> None:
    """As a killed writer leaves it; a byte in the middle is another matter."""
    path = _write(tmp_path / "a", *map(predict_log, range(3)))
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert _times(path) == [0, 1]
    path.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
    with pytest.raises(RecordingError, match=r"a: corrupted record at \d+ \(record 2\): copy the file again"):
        _times(path)


@pytest.mark.parametrize(
    ("passed_over", "why"),
    [
        ({}, "a, b: no records in it: give a file that was recorded, or a warmup file"),
        ({"without inputs": 3}, r"a, b: no record can be sent again \(3 without inputs\): record requests with their"),
    ],
)
def test_recordings_with_nothing_to_send_say_why(passed_over: dict[str, int], why: str) -> None:
    """Exit code 2."""
    with pytest.raises(ClientUsageError, match=why):
        raise nothing_to_send([Path("a"), Path("b")], passed_over)


def test_the_recorded_pace_spreads_those_of_a_second_evenly() -> None:
    """Recordings know seconds only; pauses stay, and `speed` shortens all of it."""
    logs = [predict_log(number) for number in (10, 10, 10, 10, 11, 13, 13)]
    seconds = Counter(log.log_metadata.timestamp_secs for log in logs)
    assert [*map(recorded_pace(seconds, 1), logs)] == [0.25, 0.5, 0.75, 1, 2, 3.5, 4]
    assert [*map(recorded_pace(seconds, 10), logs)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.2, 0.35, 0.4])


def test_the_recorded_pace_never_goes_back() -> None:
    """In a file that is not in the order of time, or that has grown since its records were counted."""
    logs = [predict_log(number) for number in (11, 10, 12, 12)]
    seconds = Counter(log.log_metadata.timestamp_secs for log in logs[:3])
    assert [*map(recorded_pace(seconds, 1), logs)] == [2, 2, 3, 3]
    assert recorded_pace(seconds, 1)(predict_log(20)) == 11


def test_records_without_a_time_have_no_pace() -> None:
    """Those of a warmup file."""
    with pytest.raises(ClientUsageError, match=r"7 records have no time, .* give --rate instead of --speed"):
        recorded_pace({0: 7, 1_700_000_000: 2}, 1)


def _tensor(*shape: int) -> messages.TensorProto:
    return make_tensor_proto(np.zeros(shape, np.float32))


def _examples(text: str, request: Any) -> Any:
    text_format.Parse(text, request.input)
    return request


@pytest.mark.parametrize(
    ("request_message", "kind"),
    [
        (messages.PredictRequest(inputs={"x": _tensor(3, 2)}), ("serving_default", 3)),
        (messages.PredictRequest(inputs={"a": _tensor(), "b": _tensor(4)}), ("serving_default", 4)),
        (messages.PredictRequest(inputs={"a": _tensor()}), ("serving_default", 1)),
        (_examples("example_list { examples {} examples {} }", messages.ClassificationRequest()),
         ("serving_default", 2)),
        (_examples("example_list_with_context { examples {} context {} }",
                   messages.RegressionRequest(model_spec=messages.ModelSpec(signature_name="regress"))),
         ("regress", 1)),
        (_examples("example_list { examples {} }", text_format.Parse(
            "tasks { model_spec { signature_name: 'a' } } tasks { model_spec { signature_name: 'b' } }",
            messages.MultiInferenceRequest())),
         ("a+b", 1)),
        (messages.RegressionRequest(), ("serving_default", 0)),
    ],
    ids=["rows", "scalar and rows", "scalar", "examples", "context", "tasks", "nothing"],
)  # fmt: skip
def test_requests_have_a_signature_and_a_batch_size(request_message: Any, kind: tuple[str, int]) -> None:
    """Rows of the first input that has any, or examples."""
    assert Kind.of(request_message) == kind


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (ModelSpec("n"), 'name: "n" signature_name: "s"'),
        (ModelSpec("n", version=3), 'name: "n" version { value: 3 } signature_name: "s"'),
        (ModelSpec("n", version_label="l"), 'name: "n" signature_name: "s" version_label: "l"'),
    ],
)
@pytest.mark.parametrize("choice", ["version { value: 9 }", "version_label: 'old'"])
def test_the_commands_model_takes_the_place_of_the_recorded_one(model: ModelSpec, text: str, choice: str) -> None:
    """Name, version and label; the signature stays. In every task of MultiInference."""
    spec = f"model_spec {{ name: 'm' signature_name: 's' {choice} }}"
    expected = text_format.Parse(text, messages.ModelSpec())
    request = text_format.Parse(spec, messages.PredictRequest())
    address(request, model)
    assert request.model_spec == expected
    tasks = text_format.Parse(f"tasks {{ {spec} }} tasks {{ {spec} }}", messages.MultiInferenceRequest())
    address(tasks, model)
    assert [task.model_spec for task in tasks.tasks] == [expected] * 2


def _response(**outputs: Any) -> messages.PredictResponse:
    protos = {name: make_tensor_proto(values) for name, values in outputs.items()}
    return messages.PredictResponse(outputs=protos)


_FLOATS = np.array([1, 2], np.float32)
_NAN, _INF = np.array([np.nan], np.float32), np.array([np.inf], np.float32)


@pytest.mark.parametrize(
    ("recorded", "answer", "same"),
    [
        ({"p": _FLOATS}, {"p": _FLOATS + np.float32(9e-6)}, True),
        ({"p": _FLOATS}, {"p": _FLOATS + np.float32(1.2e-5)}, False),
        ({"p": _FLOATS}, {"p": _FLOATS[:1]}, False),
        ({"p": _FLOATS}, {"q": _FLOATS}, False),
        ({"p": _FLOATS}, {"p": _FLOATS, "q": _FLOATS}, True),
        ({"p": _FLOATS}, {"p": [b"1", b"2"]}, False),
        ({"p": _NAN}, {"p": _NAN}, False),
        ({"p": _INF}, {"p": _INF}, True),
        ({"p": _INF}, {"p": -_INF}, False),
        ({"id": [3, 4]}, {"id": [3, 4]}, True),
        ({"id": [3, 4]}, {"id": [3, 5]}, False),
        ({"name": [b"a"]}, {"name": [b"a"]}, True),
        ({"name": [b"a"]}, {"name": [b"b"]}, False),
        # As REST has them: no name for a single output, and numbers of 64 bits.
        ({"p": np.array([12345.678], np.float32)}, {"": np.array([12345.678])}, True),
        ({"id": np.array([3], np.int32)}, {"id": np.array([3], np.int64)}, True),
        ({"p": _FLOATS, "id": [3]}, {"": _FLOATS}, False),
    ],
)
def test_answers_agree_as_the_self_test_has_it(recorded: dict[str, Any], answer: dict[str, Any], *, same: bool) -> None:
    """Floats within 1e-5, all else equal; NaN never passes; other outputs may come on top."""
    assert agrees(_response(**recorded), _response(**answer)) is same


@pytest.mark.parametrize(
    ("message_class", "recorded", "other"),
    [
        (
            messages.ClassificationResponse,
            "result { classifications { classes { label: 'a' score: 0.5 } classes { label: 'b' score: 0.5 } } }",
            [
                "result { classifications { classes { label: 'a' score: 0.5 } classes { label: 'c' score: 0.5 } } }",
                "result { classifications { classes { label: 'a' score: 0.5 } classes { label: 'b' score: 0.6 } } }",
                """result { classifications { classes { label: 'a' score: 0.5 } }
                classifications { classes { label: 'b' score: 0.5 } } }""",
            ],
        ),
        (messages.RegressionResponse, "result { regressions { value: 3 } }", ["result { regressions { value: 4 } }"]),
        (
            messages.MultiInferenceResponse,
            """results { regression_result { regressions { value: 3 } } }
            results { classification_result { classifications { classes { label: 'a' score: 1 } } } }""",
            [
                "results { regression_result { regressions { value: 3 } } }",
                """results { regression_result { regressions { value: 3 } } }
                results { classification_result { classifications { classes { label: 'b' score: 1 } } } }""",
            ],
        ),
    ],
)
def test_results_agree_likewise(message_class: type[Any], recorded: str, other: list[str]) -> None:
    """Labels, scores and values, in their rows; the version that answered does not matter."""
    message = text_format.Parse(recorded, message_class())
    assert agrees(message, text_format.Parse(recorded, message_class()))
    assert not any(agrees(message, text_format.Parse(text, message_class())) for text in other)


def test_an_answer_that_cannot_be_read_is_told() -> None:
    """A tensor that numpy has no form for."""
    odd = messages.PredictResponse(outputs={"x": messages.TensorProto(dtype=20)})
    with pytest.raises(ClientUsageError, match="cannot be compared with the recorded one: DataType 20 has no array"):
        agrees(odd, odd)


def test_answers_are_counted_when_the_next_request_is_made() -> None:
    """Not where they come: comparing would be part of their latency. What was not recorded is not compared."""
    different, unrecorded = predict_log(3), predict_log(4, size=5)
    different.predict_log.response.outputs["y"].CopyFrom(make_tensor_proto(np.zeros(1, np.float32)))
    unrecorded.predict_log.ClearField("response")
    errors = [server_error("UNAVAILABLE", "first"), server_error("INTERNAL", "second")]
    outcomes = iter([predict_log(1).predict_log.response, *errors, *[predict_log(3).predict_log.response] * 2])
    models: list[str] = []

    def answer(request: Any) -> Any:
        models.append(request.model_spec.name)
        outcome = next(outcomes)
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome

    replayer = Replayer(answer, ModelSpec("n"))
    first = replayer.request(predict_log(1))
    assert first() == 1
    assert replayer.answers == {}
    for _ in errors:
        with pytest.raises(ServerError):
            replayer.request(predict_log(2))()
    assert (replayer.answers, replayer.same) == ({("serving_default", 1): 1}, 1)
    assert replayer.first_error is errors[0]
    replayer.request(different)()
    assert replayer.request(unrecorded)() == 5
    replayer.compare()
    replayer.compare()
    assert replayer.answers == {("serving_default", 1): 2, ("serving_default", 5): 1}
    assert (replayer.same, replayer.different) == (1, 1)
    assert models == ["n"] * 5


def test_without_a_model_records_name_their_own() -> None:
    """`send` counts nothing."""
    requests: list[Any] = []

    def answer(request: Any) -> Any:
        requests.append(request)
        return _response()

    replayer = Replayer(answer, None)
    replayer.send(predict_log(1))
    replayer.compare()
    assert requests == [predict_log(1).predict_log.request]
    assert replayer.answers == {}
