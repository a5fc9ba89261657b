"""The requests of `fashion call`, in memory: what becomes of options, files and documents, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import Result

from client.commands.call_answers import text, write_arrays
from client.errors import ClientUsageError, server_error
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.types import Call, Metadata, ModelSpec, Signature, TensorInfo
from serving.apis.messages import ClassificationResponse, RegressionResponse
from tests.support.client_commands import answering

Run = Callable[..., Result]
_PREDICT = "tensorflow/serving/predict"
_ROWS, _WORDS = TensorInfo("DT_FLOAT", (-1,)), TensorInfo("DT_STRING", (-1,))
_SIGNATURES = {
    "serving_default": Signature({"x": _ROWS}, {"x": _ROWS}, _PREDICT),
    "words": Signature({"words": _WORDS}, {"words": _WORDS}, _PREDICT),
    "word": Signature({"word": TensorInfo("DT_STRING", ())}, {"word": TensorInfo("DT_STRING", ())}, _PREDICT),
    "many": Signature({"word": TensorInfo("DT_STRING", None)}, {"word": TensorInfo("DT_STRING", None)}, _PREDICT),
    "two": Signature({"x": _ROWS, "words": _WORDS}, {"x": _ROWS, "words": _WORDS}, _PREDICT),
    "inputs": Signature({"inputs": _ROWS}, {"inputs": _ROWS}, _PREDICT),
    "ints": Signature({"x": TensorInfo("DT_INT32", (-1, 2))}, {"x": TensorInfo("DT_INT32", (-1, 2))}, _PREDICT),
    "nothing": Signature({}, {}, _PREDICT),
    "classify": Signature({"inputs": _WORDS}, {}, "tensorflow/serving/classify"),
    "regress": Signature({"inputs": _WORDS}, {}, "tensorflow/serving/regress"),
}


class Echo(FakeTransport):
    """Answers a signature's inputs as its outputs, and examples with their number; keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(model_metadata=Metadata("m", 1, _SIGNATURES))
        self.messages: list[Any] = []
        self.calls: list[Call] = []

    def infer(self, _model: ModelSpec, call: Call, _signature: Signature) -> Exchange[dict[str, Any]]:
        """Read as the inputs that are wanted."""
        self.calls.append(call)
        dtypes = {"DT_FLOAT": np.float32, "DT_INT32": np.int32}
        arrays = {
            name: np.array(tensor.content, object).reshape(tensor.shape)
            if tensor.dtype == "DT_STRING"
            else np.frombuffer(tensor.content, dtypes[tensor.dtype]).reshape(tensor.shape)  # type: ignore[arg-type]
            for name, tensor in call.inputs.items()
        }
        return Exchange(call, lambda _: {name: arrays[name] for name in call.output_filter or arrays})

    def message(self, request: Any) -> Exchange[Any]:
        """Read as a class, or a value, of each example."""
        self.messages.append(request)
        kind = request.input.WhichOneof("kind")
        count = len(getattr(request.input, kind).examples)
        response: Any = ClassificationResponse() if "Classification" in type(request).__name__ else RegressionResponse()
        for number in range(count):
            if isinstance(response, ClassificationResponse):
                response.result.classifications.add().classes.add(label=kind, score=number)
            else:
                response.result.regressions.add(value=number + 0.1)
        return Exchange(request, lambda _: response)


@pytest.fixture
def echo() -> Echo:
    """The model."""
    return Echo()


@pytest.fixture
def call(echo: Echo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`fashion call` of it, in a directory with files of inputs."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.array([1, 2.5]))
    np.savez("arrays.npz", x=np.array([1.0, 2.5], np.float32), other=np.zeros(1))
    np.save("ints.npy", np.array([[1.0, 2.0]]))
    np.save("scalar.npy", np.array(7.0))
    np.savez("empty.npz")
    Path("rows.json").write_text("[1, 2.5]")
    Path("word.txt").write_bytes(b"\xff\n")
    fashion = answering(monkeypatch, echo)
    return lambda *arguments: fashion("call", *arguments)


@pytest.mark.parametrize(
    ("signature", "options", "outputs"),
    [
        (None, ["x=[1, 2.5]"], {"x": [1.0, 2.5]}),
        (None, ["x=@rows.npy"], {"x": [1.0, 2.5]}),
        (None, ["x=@rows.json"], {"x": [1.0, 2.5]}),
        (None, ["x=@arrays.npz"], {"x": [1.0, 2.5]}),
        ("ints", ["x=@ints.npy"], {"x": [[1, 2]]}),
        ("words", ['words=["a", {"b64": "/w=="}]'], {"words": ["a", {"b64": "/w=="}]}),
        ("words", ["words=@word.txt"], {"words": [{"b64": "/wo="}]}),
        ("word", ["word=@word.txt"], {"word": {"b64": "/wo="}}),
        ("many", ["word=@word.txt"], {"word": {"b64": "/wo="}}),
        ("word", ["word=plain text = [this]"], {"word": "plain text = [this]"}),
        ("word", ['word="quoted"'], {"word": "quoted"}),
        ("word", ["word="], {"word": ""}),
        ("word", ['word={"b64": "/w=="}'], {"word": {"b64": "/w=="}}),
        ("two", ["words=[]", "x=[]"], {"x": [], "words": []}),
    ],
)  # fmt: skip
def test_options_are_inputs_by_name(call: Run, signature: str | None, options: list[str], outputs: Any) -> None:
    """JSON, text where strings are taken, or a file: its array, its JSON, or its bytes, in a list of rows where due."""
    named = ["--signature", signature] if signature else []
    result = call(*named, *(text for option in options for text in ("--input", option)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == outputs
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("signature", "document", "outputs"),
    [
        (None, [1, 2.5], {"x": [1.0, 2.5]}),
        (None, {"x": [1]}, {"x": [1.0]}),
        (None, {"inputs": [1]}, {"x": [1.0]}),
        (None, {"inputs": {"x": [1]}}, {"x": [1.0]}),
        (None, {"instances": [1, 2]}, {"x": [1.0, 2.0]}),
        (None, {"instances": [{"x": 1}, {"x": 2}]}, {"x": [1.0, 2.0]}),
        (None, {"signature_name": "words", "inputs": ["a"]}, {"words": ["a"]}),
        ("words", {"signature_name": "two", "inputs": ["a"]}, {"words": ["a"]}),
        ("words", {"instances": [{"b64": "/w=="}, "b"]}, {"words": [{"b64": "/w=="}, "b"]}),
        ("words", {"instances": [{"b64": "/w=="}]}, {"words": [{"b64": "/w=="}]}),
        ("word", {"b64": "/w=="}, {"word": {"b64": "/w=="}}),
        ("two", {"x": [1], "words": ["a"]}, {"x": [1.0], "words": ["a"]}),
        ("two", {"instances": [{"words": "a", "x": 1}]}, {"x": [1.0], "words": ["a"]}),
        ("inputs", {"inputs": [1]}, {"inputs": [1.0]}),
    ],
)  # fmt: skip
def test_a_document_is_inputs_or_a_body_of_rest(call: Run, signature: str | None, document: Any, outputs: Any) -> None:
    """In the row or the column format; an input that is called as a body's key is an input."""
    Path("in.json").write_text(json.dumps(document, indent=1))
    named = ["--signature", signature] if signature else []
    result = call(*named, "--inputs", "in.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == outputs


@pytest.mark.parametrize(
    ("arguments", "document", "results", "examples"),
    [
        (["--signature", "classify"], [{"a": 1}, {"a": 2}], [[["example_list", 0.0]], [["example_list", 1.0]]], 2),
        (["--signature", "regress"], {"a": 1}, [0.1], 1),
        (["--signature", "regress"], {"examples": [{"a": 1}] * 3}, [0.1, 1.1, 2.1], 3),
        (["--signature", "classify"], {"examples": [{}], "context": {"a": 1}},
         [[["example_list_with_context", 0.0]]], 1),
        ([], {"signature_name": "regress", "examples": [{"a": {"b64": "/w=="}}]}, [0.1], 1),
        (["--signature", "regress", "--method", "classify"], [{"a": [{"b64": "/w=="}]}], [[["example_list", 0.0]]], 1),
    ],
)  # fmt: skip
def test_examples_are_run_by_the_method(
    call: Run, echo: Echo, arguments: list[str], document: Any, results: Any, examples: int
) -> None:
    """That of the signature, or the one that was said; a list of them, one, or a body; base64 is bytes."""
    Path("in.json").write_text(json.dumps(document))
    result = call(*arguments, "--inputs", "in.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"results": results}
    [request] = echo.messages
    kind = getattr(request.input, request.input.WhichOneof("kind"))
    assert len(kind.examples) == examples
    if "b64" in json.dumps(document):
        assert list(kind.examples[0].features.feature["a"].bytes_list.value) == [b"\xff"]


def test_options_are_one_examples_features(call: Run, echo: Echo) -> None:
    """What is no JSON is text; a file is its bytes."""
    result = call("--signature", "regress", "--input", "a=1", "--input", "b=two words", "--input", "c=@word.txt")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"results": [0.1]})
    [example] = echo.messages[0].input.example_list.examples
    feature = example.features.feature
    assert list(feature["a"].int64_list.value) == [1]
    assert list(feature["b"].bytes_list.value) == [b"two words"]
    assert list(feature["c"].bytes_list.value) == [b"\xff\n"]


@pytest.mark.parametrize(
    ("arguments", "document", "error"),
    [
        (["--input", "x"], None, "--input x: expected NAME=VALUE, such as 'x=[1, 2]' or x=@rows.npy"),
        (["--input", "=1"], None, "--input =1: expected NAME=VALUE, such as 'x=[1, 2]' or x=@rows.npy"),
        (["--input", "x=1", "--input", "x=1"], None, "--input x is given twice: several values are one list"),
        (["--input", f"x={'o' * 101}"], None,
         f"--input x={'o' * 100}: neither JSON nor @FILE: Expecting value: line 1 column 1 (char 0)"),
        (["--input", "x=@none"], None, "--input x=@none cannot be read: No such file or directory"),
        (["--input", "y=@arrays.npz"], None, "arrays.npz has no array 'y': it has x, other"),
        (["--input", "y=@empty.npz"], None, "empty.npz has no array 'y': it has none"),
        ([], {"instances": 1}, "`instances` are a list of rows"),
        (["--signature", "two"], {"instances": [{"x": 1, "words": "a"}, {"x": 1}]},
         "`instances`, row 1: its names are x, not x, words"),
        (["--signature", "two"], [1], "the signature's inputs are x, words: give an object by their names"),
        (["--signature", "nothing"], [1], "the signature's inputs are none: give an object by their names"),
        (["--signature", "two"], {"b64": "/w=="}, "the signature's inputs are x, words: give an object by their names"),
        (["--signature", "regress"], 1, 'examples are a list of objects: [{"x": 1.0}, {"x": 2.0}]'),
        (["--signature", "regress"], {"examples": [1]}, 'examples are a list of objects: [{"x": 1.0}, {"x": 2.0}]'),
        (["--signature", "regress"], [{"a": {"b64": "?"}}],
         "`a` is no base64: '?': Only base64 data is allowed"),
        (["--signature", "regress"], {"examples": [{}], "context": 1},
         "an example is a dict of features, such as {'x': 1.0}, not int"),
        (["--signature", "regress", "--output-filter", "y"], [{}],
         "--output-filter is for predict: regress has one result"),
        (["--signature", "words"], [{"b64": f"{'?' * 101}"}],
         f"`words` is no base64: '{'?' * 100}': Only base64 data is allowed"),
        (["--signature", "ints", "--input", "x=@scalar.npy"], None,
         "`x` takes int32 [N, 2], got float64 []"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_one_line(
    call: Run, echo: Echo, arguments: Sequence[str], document: Any, error: str
) -> None:
    """With the value, the rule and the fix; nothing is sent."""
    Path("in.json").write_text(json.dumps(document))
    result = call(*arguments, *(() if document is None else ("--inputs", "in.json")))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {error}\n")
    assert echo.calls + echo.messages == []


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        (b'{"x": [1]}\n\n{"x": [2]}', ['{"x": [1.0]}', '{"x": [2.0]}']),
        (b'\n{"x":\n\n[1]}\n', ['{"x": [1.0]}']),
        (b"[1]\n", ['{"x": [1.0]}']),
        (b"[1]\n[2]\n[3]", ['{"x": [1.0]}', '{"x": [2.0]}', '{"x": [3.0]}']),
    ],
    ids=["lines", "over lines", "one line", "three"],
)
def test_a_file_is_one_request_or_a_line_each(call: Run, content: bytes, answers: list[str]) -> None:
    """Blank lines are none of either."""
    Path("in").write_bytes(content)
    result = call("--inputs", "in")
    assert (result.exit_code, result.stdout.splitlines(), result.stderr) == (0, answers, "")


def test_a_line_that_fails_says_why_in_its_place(call: Run, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst of them is the exit code; the first is said at the end."""
    Path("in").write_text('[1]\n{"y": [1]}\n[2]\n?\n')
    unknown = "`y` is no input of serving_default: it takes `x` float32 [N]"
    result = call("--inputs", "in", "--concurrency", 1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [
        {"x": [1.0]}, {"error": unknown}, {"x": [2.0]},
        {"error": "line 4 is not JSON: Expecting value: line 1 column 1 (char 0)"},
    ]  # fmt: skip
    assert (result.exit_code, result.stderr) == (2, f"2 of 4 requests failed; the first is line 2: {unknown}\n")
    Path("in").write_text("[1]\n[2]\n")
    # Metadata is asked first.
    error = server_error("INTERNAL", "broken")
    fake_send = echo.send
    answers = iter([None, error, None])

    def send(request: Any, timeout: float) -> Any:
        if failure := next(answers):
            raise failure
        return fake_send(request, timeout)

    monkeypatch.setattr(echo, "send", send)
    result = call("--inputs", "in", "--concurrency", 1)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [{"error": "INTERNAL: broken"}, {"x": [2.0]}]
    assert (result.exit_code, result.stderr) == (
        1,
        "1 of 2 requests failed; the first is line 1: INTERNAL: broken\n",
    )


def test_only_wanted_outputs_are_asked_for(call: Run, echo: Echo) -> None:
    """In the request too."""
    result = call("--signature", "two", "--output-filter", "words", "--input", "x=[]", "--input", 'words=["a"]')
    assert json.loads(result.stdout) == {"words": ["a"]}
    assert list(echo.calls[0].output_filter) == ["words"]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"a": np.array([0.1], np.float32), "b": np.array(0.1)}, '{"a": [0.1], "b": 0.1}'),
        ({"a": np.array([1 / 3], np.float16)}, '{"a": [0.3333]}'),
        ({"b": np.array([1 / 3], np.float32)}, '{"b": [0.33333334]}'),
        ({"a": np.array([1 / 3])}, '{"a": [0.3333333333333333]}'),
        ({"a": np.array([np.nan, np.inf], np.float32)}, '{"a": [NaN, Infinity]}'),
        ({"a": np.array([[2**63 - 1]]), "b": np.array([True])}, '{"a": [[9223372036854775807]], "b": [true]}'),
        ({"a": np.array([["ä".encode(), b"\xff"]], object)}, '{"a": [["\\u00e4", {"b64": "/w=="}]]}'),
        ([[("yes", 0.1), ("no", 0.9)]], '{"results": [[["yes", 0.1], ["no", 0.9]]]}'),
        ([np.float32(0.1), 2], '{"results": [0.1, 2.0]}'),
        ([], '{"results": []}'),
    ],
)  # fmt: skip
def test_an_answer_is_one_line_of_json(answer: Any, line: str) -> None:
    """Floats with the digits that they have."""
    assert text(answer) == f"{line}\n"


@pytest.mark.parametrize(
    ("arguments", "name", "method"),
    [
        (["--signature", "classify"], "classify", "ClassificationRequest"),
        (["--signature", "regress"], "regress", "RegressionRequest"),
        (["--signature", "regress", "--method", "classify"], "regress", "ClassificationRequest"),
        (["--signature", "classify", "--method", "regress"], "classify", "RegressionRequest"),
        (["--method", "regress"], "regress", "RegressionRequest"),
    ],
)
def test_the_signature_is_the_one_that_was_named(
    call: Run, echo: Echo, arguments: list[str], name: str, method: str
) -> None:
    """By the method of the metadata, or the one that was said; without a name the only one of the method."""
    assert call(*arguments, "--input", "a=1").exit_code == 0
    [request] = echo.messages
    assert (request.model_spec.signature_name, type(request).__name__) == (name, method)
    assert request.model_spec.name == "fashion_mnist"


def test_an_answer_is_a_file_of_arrays() -> None:
    """As numpy has them without pickle: strings of its own type, bfloat16 as float32."""
    arrays = {
        "f": np.array([0.5], np.float32),
        "i": np.array([[1, 2]]),
        "b": np.array([0.5], ml_dtypes.bfloat16),
        "s": np.array([b"ab", b"\xff"], object),
        "c": np.array([1j], np.complex64),
    }
    buffer = io.BytesIO()
    write_arrays(arrays, buffer)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as archive:
        found = {name: (archive[name].dtype.str, archive[name].tolist()) for name in archive.files}
    assert found == {
        "f": ("<f4", [0.5]), "i": ("<i8", [[1, 2]]), "b": ("<f4", [0.5]), "s": ("|S2", [b"ab", b"\xff"]),
        "c": ("<c8", [1j]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([[("yes", 0.1)]], "results of classify and regress are no arrays: --output FILE.json"),
        (
            {"s": np.array([[b"a"], [b"b\0"]], object)},
            "`s` has a string that ends in a zero byte, which .npz would lose: --output FILE.json",
        ),
    ],
)
def test_what_a_file_of_arrays_cannot_hold_is_refused(answer: Any, error: str) -> None:
    """With the form that can."""
    with pytest.raises(ClientUsageError) as raised:
        write_arrays(answer, io.BytesIO())
    assert str(raised.value) == error
    with pytest.raises(ClientUsageError) as raised:
        text({"c": np.array([1j], np.complex64)})
    assert str(raised.value) == "`c` is complex64, which has no JSON form: --output FILE.npz"


def test_small_floats_have_their_own_digits() -> None:
    """Those of ml_dtypes too."""
    assert text({"b": np.array([0.1], ml_dtypes.bfloat16)}) == '{"b": [0.100097656]}\n'
    assert text({"e": np.array([0.5], ml_dtypes.float8_e4m3fn), "i": np.array([3], ml_dtypes.int4)}) == (
        '{"e": [0.5], "i": [3.0]}\n'
    )
