"""`fashion call`: any model on the command line, over both APIs."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from client import ModelSpec, connect
from client.cli import fashion
from client.commands.call_example import command, description
from client.types import Metadata, Signature, TensorInfo
from tests.support.client_commands import APIS, NOBODY
from tests.support.console import FASHION
from tests.support.road import Road


def call(server: str, model: str, *arguments: object, stdin: bytes | None = None) -> Result:
    """The result of `fashion call` on a model."""
    command = ["call", "--server", server, "--model-name", model, *map(str, arguments)]
    return CliRunner().invoke(fashion, command, input=stdin)


def answer(result: Result) -> Any:
    """Its one line."""
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    return json.loads(line)


_SAVED = "import numpy as np; np.save('a_b.npy', np.zeros((1, 17), 'float32'))"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files of inputs."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.array([1.0, 2.5]))
    np.savez("request.npz", x=np.array([1, 2], np.int64))
    np.savez("other.npz", y=np.zeros(1))
    Path("rows.json").write_text("[1, 2.5]")
    Path("request.json").write_text(json.dumps({"x": [1, 2.5]}, indent=2))
    Path("instances.json").write_text('{"instances": [1.0, 2.5]}')
    Path("named.json").write_text('{"instances": [{"x": 1.0}, {"x": 2.5}], "signature_name": "serving_default"}')
    Path("inputs.json").write_text('{"inputs": {"x": [1.0, 2.5]}}')
    Path("plain.json").write_text('{"inputs": [1.0, 2.5]}')
    Path("value.json").write_text("[1.0, 2.5]")
    Path("text.bin").write_bytes(b"\xff\0")
    return tmp_path


@APIS
@pytest.mark.parametrize(
    "arguments",
    [
        ["--input", "x=[1, 2.5]"],
        ["--input", "x=@rows.npy"],
        ["--input", "x=@rows.json"],
        *(["--inputs", name] for name in ("rows.npy", "request.json", "instances.json", "named.json", "inputs.json")),
        *(["--inputs", name] for name in ("plain.json", "value.json")),
    ],
)
@pytest.mark.usefixtures("files")
def test_inputs_come_in_every_form(any_models: dict[str, str], api: str, arguments: list[str]) -> None:
    """Numbers take the signature's dtype; the answer is one line."""
    assert answer(call(any_models[api], "half_plus_two", *arguments)) == {"y": [3.5, 4.25], "bias": [3.0, 3.0]}


@APIS
@pytest.mark.usefixtures("files")
def test_a_file_of_arrays_goes_in_and_comes_out(any_models: dict[str, str], api: str) -> None:
    """Only the outputs that are wanted; strings as numpy has them."""
    result = call(
        any_models[api], "half_plus_two", "--inputs", "request.npz", "--output", "out.npz", "--output-filter", "y"
    )
    assert (result.exit_code, result.output) == (0, "")
    assert answer(call(any_models[api], "half_plus_two", "--inputs", "request.npz", "--output", "-"))["y"] == [3.5, 4.0]
    with np.load("out.npz") as archive:
        assert archive.files == ["y"]
        assert (archive["y"].dtype, archive["y"].tolist()) == (np.float32, [3.5, 4.0])
    inputs = ["f32=[0.1]", "f64=[0.1]", "i32=[1]", "i64=[1]", "u8=[1]", "flag=[true]", 'text=["ä"]']
    options = [text for each in inputs for text in ("--input", each)]
    result = call(any_models[api], "kitchen", "--signature", "dtypes", *options, "--output", "out.npz")
    assert result.exit_code == 0, result.output
    with np.load("out.npz") as archive:
        assert archive["text"].tolist() == ["ä".encode()]
        assert archive["flag"].tolist() == [True]


@APIS
@pytest.mark.usefixtures("files")
def test_strings_are_text_base64_or_bytes_of_files(any_models: dict[str, str], api: str) -> None:
    """In and out; floats have the digits that they have, and JSON's numbers their own."""
    inputs: list[tuple[str, Any]] = [
        ("f32", [0.1, math.inf]), ("f64", [0.1, -math.inf]), ("i32", [1, 2]), ("i64", [2**63 - 1, 0]), ("u8", [1, 255]),
        ("flag", [True, False]), ("text", ["ä", {"b64": "/wA="}]),
    ]  # fmt: skip
    options = [text for name, value in inputs for text in ("--input", f"{name}={json.dumps(value)}")]
    outputs = answer(call(any_models[api], "kitchen", "--signature", "dtypes", *options))
    assert outputs.pop("text_bytes") == ["ä!", {"b64": "/wAh"}]
    assert outputs == dict(inputs)
    options[-1] = "text=@text.bin"
    for index, (name, value) in enumerate(inputs[:-1]):
        options[2 * index + 1] = f"{name}={json.dumps(value[:1])}"
    outputs = answer(call(any_models[api], "kitchen", "--signature", "dtypes", *options, "--output-filter", "text"))
    assert outputs == {"text": [{"b64": "/wA="}]}


@APIS
@pytest.mark.parametrize(
    ("arguments", "stdin", "results"),
    [
        (["--signature", "classify", "--input", "x=0.25"], None, [[["yes", 0.25], ["no", 0.75]]]),
        (["--method", "classify", "--input", "x=[0.25]"], None, [[["yes", 0.25], ["no", 0.75]]]),
        (["--method", "regress", "--inputs", "-"], b'[{"x": 0.25}, {"x": 1.0}]', [3.125, 3.5]),
        (["--inputs", "-"], b'{"signature_name": "regress", "examples": [{}], "context": {"x": 0.2}}', [3.1]),
        (["--method", "regress", "--inputs", "-"], b'{"x": 1.0}', [3.5]),
    ],
)
def test_examples_are_classified_and_regressed(
    any_models: dict[str, str], api: str, arguments: list[str], stdin: bytes | None, results: Any
) -> None:
    """By the signature's own method, or the one that was said; as TF Serving's REST API has the results."""
    assert answer(call(any_models[api], "kitchen", *arguments, stdin=stdin)) == {"results": results}


@APIS
def test_a_picture_is_a_feature(road: Road, pictures: dict[Path, np.ndarray], api: str) -> None:
    """The bytes of a file."""
    result = call(
        road.servers[api], "fashion_mnist", "--method", "classify", "--input", f"image/encoded=@{next(iter(pictures))}"
    )
    [row] = answer(result)["results"]
    assert sum(score for _, score in row) == pytest.approx(1, abs=1e-5)


@APIS
def test_json_lines_are_answered_in_order(any_models: dict[str, str], api: str, tmp_path: Path) -> None:
    """Each in one line; one that fails says why, and the exit code is that of what was asked wrongly."""
    lines = [json.dumps({"x": [number]}).encode() for number in range(40)]
    result = call(any_models[api], "half_plus_two", "--inputs", "-", "--output-filter", "y", stdin=b"\n\n".join(lines))
    assert result.exit_code == 0, result.output
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"y": [number / 2 + 3]} for number in range(40)
    ]
    lines[2:4] = [b'{"z": 1}', b"{"]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    output = tmp_path / "out.jsonl"
    result = call(any_models[api], "half_plus_two", "--inputs", tmp_path / "in.jsonl", "--output", output)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [number for number, each in enumerate(answers) if "error" in each] == [2, 3]
    assert answers[2] == {"error": "`z` is no input of serving_default: it takes `x` float32 [N]"}
    assert answers[3]["error"].startswith("line 4 is not JSON: ")
    assert result.exit_code == 2
    assert result.output == f"2 of 40 requests failed; the first is line 3: {answers[2]['error']}\n"


def test_a_servers_error_is_that_lines_and_no_server_ends_it(any_models: dict[str, str]) -> None:
    """What the model refuses fails its request only: exit code 1."""
    lines = b'{"examples": [{"x": 0.25}]}\n{"examples": [{"q": 0.25}]}\n'
    result = call(any_models["grpc"], "kitchen", "--method", "regress", "--inputs", "-", stdin=lines)
    assert result.exit_code == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {"results": [3.125]}
    assert second["error"].startswith("INVALID_ARGUMENT: ")
    result = call(NOBODY, "kitchen", "--inputs", "-", stdin=lines)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: UNAVAILABLE: ")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--input", "x=1", "--inputs", "-"], "--input and --inputs exclude each other: give one"),
        (["--input", "x"], "--input x: expected NAME=VALUE, such as 'x=[1, 2]' or x=@rows.npy"),
        (["--input", "=1"], "--input =1: expected NAME=VALUE"),
        (["--input", "x=1", "--input", "x=2"], "--input x is given twice: several values are one list"),
        (["--input", "x=one"], "--input x=one: neither JSON nor @FILE: Expecting value"),
        (["--input", "x=1"], "`x` takes float32 [N], got a scalar: [x]"),
        (["--input", "y=[1]"], "`y` is no input of serving_default: it takes `x` float32 [N]"),
        (["--input", "x=@nowhere.npy"], "No such file or directory: give .npz, .npy or JSON"),
        (["--input", "x=@nowhere"], "--input x=@nowhere cannot be read: No such file or directory"),
        (["--input", "x=@other.npz"], "other.npz has no array 'x': it has y"),
        (["--input", "x=@text.bin"], "`x` takes float32 [N], got bytes b'\\xff"),
        (["--inputs", "text.bin"], "text.bin is not JSON: "),
        (["--inputs", "nowhere.json"], "nowhere.json cannot be read: No such file or directory"),
        (["--inputs", "nowhere.npz"], "nowhere.npz cannot be read: No such file or directory"),
        (["--input", "x=[1]", "--signature", "z"], "half_plus_two has no signature 'z': it has serving_default"),
        (["--input", "x=[1]", "--output-filter", "z"], "`z` is no output of serving_default: it has `bias`"),
        (["--input", "x=[1]", "--method", "classify"], "takes x DT_FLOAT [N], and no tf.Examples: infer runs this one"),
        (["--method", "regress", "--input", "x=1", "--output-filter", "y"], "--output-filter is for predict"),
        (["--signature", "z"], "half_plus_two has no signature 'z'"),
    ],
)  # fmt: skip
def test_what_was_asked_wrongly_is_one_line(any_models: dict[str, str], arguments: list[str], text: str) -> None:
    """With the value, the rule and the fix; exit code 2."""
    result = call(any_models["grpc"], "half_plus_two", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("model", "stdin", "text"),
    [
        ("half_plus_two", b" \n", "standard input is empty: expected a request as JSON, or one a line"),
        ("half_plus_two", b'{"instances": 1}', "`instances` are a list of rows"),
        ("kitchen", b'{"signature_name": "two_in_two_out", "instances": [[1]]}', "are matrix, offset: give an object"),
        ("kitchen", b'{"signature_name": "two_in_two_out", "instances": [{"offset": 1}]}', "row 0: its names are"),
        ("kitchen", b'{"signature_name": "regress", "examples": 1}', 'a list of objects: [{"x": 1.0}, {"x": 2.0}]'),
        ("assets", b'[{"b64": "?"}]', "`words` is no base64: '?': "),
        ("assets", b'{"b64": "/w=="}', "`words` takes string [N], got a scalar: [words]"),
    ],
)  # fmt: skip
def test_requests_that_are_none_are_one_line(any_models: dict[str, str], model: str, stdin: bytes, text: str) -> None:
    """As bodies that TF Serving would refuse too."""
    result = call(any_models["grpc"], model, "--inputs", "-", stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in result.stderr


@pytest.mark.usefixtures("files")
def test_answers_that_a_form_cannot_hold_are_refused(any_models: dict[str, str]) -> None:
    """With the form that can."""
    zeros = [text for name in ("f32", "f64", "i32", "i64", "u8") for text in ("--input", f"{name}=[0]")]
    dtypes = ["--signature", "dtypes", *zeros, "--input", "flag=[true]", "--input", "text=@text.bin"]
    Path("lines").write_text("[1]\n[2]\n")
    for model, arguments, text in (
        ("kitchen", dtypes, "a string that ends in a zero byte, which .npz would lose"),
        ("kitchen", ["--signature", "regress", "--input", "x=1.0"], "are no arrays: --output FILE.json"),
        ("half_plus_two", ["--inputs", "lines"], "o.npz: answers of several requests are JSON lines"),
    ):
        result = call(any_models["grpc"], model, *arguments, "--output", "o.npz")
        assert (result.exit_code, result.stdout) == (2, "")
        assert text in result.stderr
        assert not Path("o.npz").exists()


def _commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "fashion call" in line and "FEATURE" not in line]


@APIS
@pytest.mark.parametrize(("model", "count"), [("half_plus_two", 1), ("kitchen", 7), ("assets", 1), ("tf1", 2)])
def test_the_command_lines_that_are_shown_work(
    any_models: dict[str, str], api: str, model: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing given; each for its signature, on the same server."""
    monkeypatch.chdir(tmp_path)
    result = call(any_models[api], model)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{model}, version ")
    commands = _commands(result.stdout)
    assert len(commands) == count
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "fashion"
        shown = CliRunner().invoke(fashion, arguments)
        assert shown.exit_code == 0, (line, shown.output)
        assert isinstance(answer(shown), dict)


@pytest.mark.parametrize("model", ["many_types", "fashion_mnist"])
def test_long_inputs_and_those_without_json_come_from_files(
    any_models: dict[str, str], road: Road, model: str, tmp_path: Path
) -> None:
    """The very line, in a shell; complex numbers come out as arrays."""
    server = road.servers["grpc"] if model == "fashion_mnist" else any_models["grpc"]
    shown = call(server, model, "--signature", "serving_default").stdout
    [line] = _commands(shown)
    path = f"PATH={shlex.quote(str(Path(FASHION).parent))}:$PATH"
    output = " --output out.npz" if model == "many_types" else ""
    done = subprocess.run(
        ["/bin/sh", "-c", f"export {path}; {line}{output}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (line, done.stderr)
    if model == "many_types":
        with np.load(tmp_path / "out.npz") as archive:
            assert archive["complex64_out"].tolist() == [0j]
            assert archive["bfloat16_out"].dtype == np.float32
    else:
        assert json.loads(done.stdout)["probabilities"][0] == pytest.approx(_zeros(server), abs=1e-6)


def _zeros(server: str) -> Any:
    with connect(server, model=ModelSpec("fashion_mnist")) as connection:
        return connection.infer({"images": np.zeros((1, 28, 28), np.uint8)})["probabilities"][0].tolist()


def test_numbers_in_a_file_take_the_dtype_where_they_lose_nothing(any_models: dict[str, str], tmp_path: Path) -> None:
    """Scalars and rows, as those in JSON."""
    for name, array in (
        ("flat", np.arange(4)),
        ("scalar", np.array(3)),
        ("rows", np.array([[1, 2, 3, 4.0]])),
        ("bad", np.array([[1, 2, 3, 0.5]])),
    ):
        np.save(tmp_path / f"{name}.npy", array)
    server = any_models["grpc"]
    assert answer(call(server, "kitchen", "--signature", "scalar", "--inputs", tmp_path / "scalar.npy")) == {"y": 6.0}
    sums = ["--signature", "bytes_sum", "--input"]
    assert answer(call(server, "kitchen", *sums, f"pixels=@{tmp_path / 'rows.npy'}")) == {"sum": [10]}
    for name, got in (("bad", "float 0.5"), ("flat", "int64 [4]: pixels[None].astype('uint8')")):
        result = call(server, "kitchen", *sums, f"pixels=@{tmp_path / name}.npy")
        assert (result.exit_code, result.stderr) == (2, f"Error: `pixels` takes uint8 [N, 4], got {got}\n")


def test_complex_numbers_have_no_json(any_models: dict[str, str], tmp_path: Path) -> None:
    """The error names the form that holds them."""
    names = ("bfloat16", "half", "int8", "int16", "uint16", "uint32", "uint64", "complex64", "complex128", "qint8")
    arrays: dict[str, Any] = {name: np.zeros(1, name if "complex" in name else "i") for name in names}
    np.savez(tmp_path / "in.npz", **arrays)
    result = call(any_models["grpc"], "many_types", "--inputs", tmp_path / "in.npz")
    assert result.exit_code == 2
    assert "which has no JSON form: --output FILE.npz" in result.stderr
    options = ["--output-filter", "half_out", "--output-filter", "bfloat16_out"]
    outputs = answer(call(any_models["grpc"], "many_types", "--inputs", tmp_path / "in.npz", *options))
    assert outputs == {"half_out": [0.0], "bfloat16_out": [0.0]}


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({"x": TensorInfo("DT_FLOAT", ())}, "fashion call --input x=0"),
        ({"x": TensorInfo("DT_FLOAT", None)}, "fashion call --input 'x=[0]'"),
        ({"flag": TensorInfo("DT_BOOL", (-1, 2))}, "fashion call --input 'flag=[[false, false]]'"),
        ({"a": TensorInfo("DT_INT8", (16,))}, f"fashion call --input 'a={[0] * 16}'"),
        ({"text": TensorInfo("DT_STRING", (-1,))}, "fashion call --input 'text=[\"text\"]'"),
        ({"image_bytes": TensorInfo("DT_STRING", (-1,))}, "fashion call --input image_bytes=@FILE"),
        (
            {"a/b": TensorInfo("DT_BFLOAT16", (-1, 17))},
            f"python -c {shlex.quote(_SAVED)} && fashion call --input a/b=@a_b.npy",
        ),
        ({}, "fashion call"),
    ],
)  # fmt: skip
def test_a_command_line_for_each_kind_of_input(inputs: Mapping[str, TensorInfo], line: str) -> None:
    """Short ones in it, long ones by way of a file."""
    shown = command("serving_default", Signature(dict(inputs), {}, ""), [])
    assert shlex.split(shown) == shlex.split(line)


def test_what_a_signature_of_examples_takes_is_said(any_models: dict[str, str]) -> None:
    """Its features are not in the metadata; headers, which are secrets, are not repeated."""
    result = call(any_models["grpc"], "kitchen", "--signature", "classify", "--header", "token=secret", "--timeout", 5)
    assert "takes tf.Examples: features of text, int64, or floats such as 1.0" in result.stdout
    options = f"--server {any_models['grpc']} --model-name kitchen --timeout 5.0 --signature classify"
    assert sorted(shlex.split(result.stdout.splitlines()[-1])[2:]) == sorted(
        ["--input", "FEATURE=VALUE", *shlex.split(options)]
    )


_DESCRIPTION = """\
m, version 7

serving_default
  takes x  float32 [N]
  takes image_bytes  string [N]
  gives y  int64 [N, 2]
  fashion call --server grpc://h --input 'x=[0]' --input image_bytes=@FILE

classify
  takes tf.Examples: features of text, int64, or floats such as 1.0; the metadata do not name them
  fashion call --server grpc://h --signature classify --input FEATURE=VALUE

other
  gives z  bool []
  fashion call --server grpc://h --signature other
"""


def test_what_a_model_wants_is_said_signature_by_signature() -> None:
    """`serving_default` first; the options of the connection are repeated."""
    predict, classify = "tensorflow/serving/predict", "tensorflow/serving/classify"
    words = TensorInfo("DT_STRING", (-1,))
    signatures = {
        "classify": Signature({"inputs": words}, {"scores": TensorInfo("DT_FLOAT", (-1, 2))}, classify),
        "other": Signature({}, {"z": TensorInfo("DT_BOOL", ())}, predict),
        "serving_default": Signature(
            {"x": TensorInfo("DT_FLOAT", (-1,)), "image_bytes": words}, {"y": TensorInfo("DT_INT64", (-1, 2))}, predict
        ),
    }
    lines = description(Metadata("m", 7, signatures), ["--server", "grpc://h"])
    assert "\n".join(lines) + "\n" == _DESCRIPTION


@pytest.mark.parametrize(
    ("info", "value"),
    [
        (TensorInfo("DT_INT8", (2, -1, 3)), "[[[0, 0, 0]], [[0, 0, 0]]]"),
        (TensorInfo("DT_INT8", (4, 4)), str([[0] * 4] * 4)),
        (TensorInfo("DT_INT8", (17,)), "@x.npy (17,) int8"),
        (TensorInfo("DT_COMPLEX64", (1,)), "@x.npy (1,) complex64"),
        (TensorInfo("DT_FLOAT", (-1, 28, 28)), "@x.npy (1, 28, 28) float32"),
        (TensorInfo("DT_DOUBLE", (0, -1)), "[]"),
        (TensorInfo("DT_STRING", (2, -1)), '[["text"], ["text"]]'),
        (TensorInfo("DT_STRING", None), '["text"]'),
    ],
)
def test_an_input_of_a_few_values_is_in_the_command_line(info: TensorInfo, value: str) -> None:
    """Sixteen at most, of which free sizes are one; more come from a file that the line makes."""
    line = command("serving_default", Signature({"x": info}, {}, ""), [])
    file, _, saved = value.partition(".npy ")
    if saved:
        shape, _, dtype = saved.rpartition(" ")
        made = f"import numpy as np; np.save('x.npy', np.zeros({shape}, '{dtype}'))"
        assert line == f'python -c "{made}" && fashion call --input x={file}.npy'
    else:
        assert line == f"fashion call --input {shlex.quote(f'x={value}')}"


def test_several_files_are_made_in_one_line() -> None:
    """Each with a name of its own, whatever the input is called."""
    large = TensorInfo("DT_FLOAT", (-1, 17))
    line = command("s", Signature({"a b": large, "ä:0": large}, {}, ""), ["--timeout", "5"])
    assert line == (
        "python -c \"import numpy as np; np.save('a_b.npy', np.zeros((1, 17), 'float32')); "
        "np.save('ä_0.npy', np.zeros((1, 17), 'float32'))\" && "
        "fashion call --timeout 5 --signature s --input 'a b=@a_b.npy' --input 'ä:0=@ä_0.npy'"
    )
