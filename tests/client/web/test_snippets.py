"""What the page gives to copy asks the same question again: on the command line, in Python, with curl."""

# ruff: noqa: S106 - no tokens of anybody

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.connection import open_transports
from client.pictures.batch import Batch
from client.transports.address import ServerAddress
from client.transports.fake import FakeTransport
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Signature, TensorInfo
from client.web.snippets import Asked, AskedInputs, Reach, input_snippets, snippets
from tests.support.client_commands import APIS
from tests.support.page import page, picture
from tests.support.road import Road

PREDICTION = {"class_id": 0, "class_name": "T-shirt/top", "probability": 1.0, "probabilities": [1.0] + [0.0] * 9}


def _answer(url: str, file: Path, preprocess: str = "auto") -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with page(open_transports([url], 10, None, asynchronous=True), url) as browser:
            query = httpx.QueryParams(name=file.name, preprocess=preprocess)
            response = await browser.post(f"/api/predict?{query}", content=file.read_bytes())
            assert response.status_code == 200, response.text
            return dict(response.json())

    return asyncio.run(ask())


@APIS
@pytest.mark.parametrize("preprocess", ["auto", "photo"])
def test_each_gives_the_answer_that_the_page_shows(
    road: Road, api: str, preprocess: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied, and run where the picture is; over gRPC curl asks the usual REST port, which is not this server's."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "it's a bag.png"
    file.write_bytes(picture(size=60))
    page_answer = _answer(road.servers[api], file, preprocess)
    [shown] = page_answer["answers"]
    texts = page_answer["snippets"]
    assert json.loads(texts["Answer"])["probabilities"] == shown["probabilities"]

    command = shlex.split(texts["fashion predict"].replace("\\\n", ""))
    result = CliRunner().invoke(fashion, [*command[1:], "--json"])
    assert result.exit_code == 0, result.output
    [printed] = json.loads(result.stdout)
    assert printed["probabilities"] == pytest.approx(shown["probabilities"], abs=1e-6)

    python = subprocess.run(
        [sys.executable, "-c", texts["Python"]], capture_output=True, text=True, check=True, timeout=60
    )
    assert python.stdout.split()[0] == shown["class_name"].split()[0]

    curl = texts["curl"].replace("http://127.0.0.1:8501", road.servers["rest"])
    answer = json.loads(
        subprocess.run(["/bin/sh", "-c", f"{curl} -s"], capture_output=True, text=True, check=True, timeout=60).stdout
    )
    assert answer["outputs"]["probabilities"][0] == pytest.approx(shown["probabilities"], abs=1e-6)


def _texts(url: str, security: Security, name: str = "bag.png") -> dict[str, str]:
    asked = Asked(ModelSpec("mine", version=3), Batch("DT_UINT8", bytes(784)), name, "none")
    return snippets(asked, FakeTransport().model_metadata, Reach(ServerAddress.parse(url), security), PREDICTION)


def test_tls_and_headers_are_in_them_but_no_headers_value(tmp_path: Path) -> None:
    """A header may be a token: its value is left to the user."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    texts = _texts("https://h:443", Security(ca, ca, ca, "name", (("authorization", "Bearer secret"),)))
    assert "secret" not in json.dumps(texts)
    assert texts["fashion predict"].splitlines() == [
        "fashion predict bag.png \\",
        "  --server https://h:443 \\",
        f"  --tls-ca {ca} \\",
        f"  --tls-certificate {ca} \\",
        f"  --tls-key {ca} \\",
        "  --tls-server-name name \\",
        "  --header authorization=... \\",
        "  --model-name mine \\",
        "  --model-version 3 \\",
        "  --preprocess none",
    ]
    assert "headers=(('authorization', '...'),)" in texts["Python"]
    assert f"ca_file=Path('{ca}')" in texts["Python"]
    compile(texts["Python"], "snippet", "exec")
    assert texts["curl"].splitlines()[1:5] == [
        f"  --cacert {ca} \\",
        f"  --cert {ca} \\",
        f"  --key {ca} \\",
        "  -H 'authorization: ...' \\",
    ]


def test_a_token_is_left_to_the_user() -> None:
    """By the option that reads it, and as a header for curl."""
    texts = _texts("https://h:443", Security(token="secret"))
    assert "secret" not in json.dumps(texts)
    assert "--token-file TOKEN_FILE" in texts["fashion predict"]
    assert "Security(token='...')" in texts["Python"]
    assert "-H 'authorization: ...'" in texts["curl"]


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("grpc://h:8500", "http://h:8501"),
        ("grpc://[::1]:8500", "http://[::1]:8501"),
        ("unix:///run/s", "http://127.0.0.1:8501"),
        ("http://h:9/models", "http://h:9/models"),
    ],
)
def test_curl_asks_the_usual_rest_port_of_a_grpc_server(url: str, rest: str) -> None:
    """Where REST is beside gRPC nobody tells."""
    command = shlex.split(_texts(url, Security())["curl"])
    assert command[:2] == ["curl", f"{rest}/v1/models/mine/versions/3:predict"]


def test_a_file_that_looks_like_an_option_is_a_file() -> None:
    """Its name comes from whoever uses the page."""
    assert "fashion predict ./--json " in _texts("grpc://h", Security(), "--json")["fashion predict"]
    assert "'; rm -rf /'" in _texts("grpc://h", Security(), "; rm -rf /")["fashion predict"]


def test_inputs_are_written_as_the_command_and_a_program_read_them() -> None:
    """Bytes are text where they are; complex numbers have no JSON, so neither command has them."""
    inputs = {"words": TensorInfo("DT_STRING", (-1,)), "numbers": TensorInfo("DT_COMPLEX64", (-1,))}
    metadata = Metadata("m", 1, {name: Signature({"x": info}, {}, "predict") for name, info in inputs.items()})
    reach = Reach(ServerAddress.parse("grpc://h"), Security())

    def texts(name: str, value: object) -> dict[str, str]:
        asked = AskedInputs(ModelSpec("m", version=1), name, "predict", {"x": value})
        return input_snippets(asked, metadata, reach)

    words = texts("words", [b"caf\xc3\xa9", b"\xff"])
    assert words["fashion call"].splitlines()[-2:] == [
        "  --signature words \\",
        """  --input 'x=["caf\\u00e9", {"b64": "/w=="}]'""",
    ]
    assert "infer({'x': [b'caf\\xc3\\xa9', b'\\xff']}, signature_name='words')" in words["Python"]
    assert texts("numbers", [1 + 2j]).keys() == {"Python"}


_PATHS = """\
from pathlib import Path

from client import ModelSpec, Security, connect

model = ModelSpec('mine', version=3)
with connect('grpcs://h:8500', model=model, security=Security(ca_file=Path('{0}'), server_name='x')) as connection:
    [prediction] = connection.predict('bag.png', preprocess='none')
    print(prediction.class_name, prediction.probability)"""
_PLAIN = """\
from client import ModelSpec, connect

model = ModelSpec('fashion_mnist', version=1)
with connect('grpc://h:8500', model=model) as connection:
    [prediction] = connection.predict('bag.png')
    print(prediction.class_name, prediction.probability)"""


def test_a_program_imports_what_it_needs(tmp_path: Path) -> None:
    """A path where a file is named, Security where there is any; nothing that is the default is said."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert _texts("grpcs://h", Security(ca, server_name="x"))["Python"] == _PATHS.format(ca)
    named = _texts("grpcs://h", Security(server_name="x"))["Python"]
    assert named.startswith("from client import ModelSpec, Security, connect\n\nmodel = ")
    asked = Asked(ModelSpec(version=1), Batch("DT_UINT8", bytes(784)), "bag.png", "auto")
    reach = Reach(ServerAddress.parse("grpc://h"), Security())
    texts = snippets(asked, FakeTransport().model_metadata, reach, PREDICTION)
    assert texts["Python"] == _PLAIN
    assert texts["fashion predict"] == "fashion predict bag.png \\\n  --server grpc://h:8500 \\\n  --model-version 1"
    assert texts["curl"].startswith("curl http://h:8501/v1/models/fashion_mnist/versions/1:predict \\\n  -d '{")
    assert json.loads(shlex.split(texts["curl"].replace("\\\n", ""))[-1]) == {
        "signature_name": "serving_default", "inputs": {"images": [[[0] * 28] * 28]},
    }  # fmt: skip
    assert texts["Answer"] == json.dumps({"file": "bag.png", **PREDICTION}, indent=1)
    assert list(texts) == ["fashion predict", "Python", "curl", "Answer"]


_ANY = {
    "serving_default": Signature({"x": TensorInfo("DT_FLOAT", (-1,))}, {}, "tensorflow/serving/predict"),
    "classify": Signature({"inputs": TensorInfo("DT_STRING", (-1,))}, {}, "tensorflow/serving/classify"),
    "regress": Signature({"inputs": TensorInfo("DT_STRING", (-1,))}, {}, "tensorflow/serving/regress"),
}


def _input_texts(name: str, method: str, inputs: dict[str, Any]) -> dict[str, str]:
    asked = AskedInputs(ModelSpec("m", version=1), name, method, inputs)
    return input_snippets(asked, Metadata("m", 1, _ANY), Reach(ServerAddress.parse("grpc://h"), Security()))


_HEAD = "from client import ModelSpec, connect\n\nmodel = ModelSpec('m', version=1)\n"
_WITH = f"{_HEAD}with connect('grpc://h:8500', model=model) as connection:\n    "


def test_inputs_are_options_and_examples_come_by_a_pipe() -> None:
    """Each method by its own command line, program and address."""
    assert _input_texts("serving_default", "predict", {"x": [1.5]}) == {
        "fashion call": (
            "fashion call \\\n  --server grpc://h:8500 \\\n  --model-name m \\\n  --model-version 1 \\\n"
            "  --input 'x=[1.5]'"
        ),
        "Python": f"{_WITH}print(connection.infer({{'x': [1.5]}}, signature_name='serving_default'))",
        "curl": (
            "curl http://h:8501/v1/models/m/versions/1:predict \\\n"
            """  -d '{"signature_name":"serving_default","inputs":{"x":[1.5]}}'"""
        ),
    }
    for method in ("classify", "regress"):
        assert _input_texts(method, method, {"examples": [{"x": 1.5}]}) == {
            "fashion call": (
                """printf %s '{"examples": [{"x": 1.5}]}' |\n  fashion call \\\n  --server grpc://h:8500 \\\n"""
                f"  --model-name m \\\n  --model-version 1 \\\n  --signature {method} \\\n  --inputs -"
            ),
            "Python": f"{_WITH}print(connection.{method}([{{'x': 1.5}}], signature_name='{method}'))",
            "curl": (
                f"curl http://h:8501/v1/models/m/versions/1:{method} \\\n"
                f"""  -d '{{"signature_name":"{method}","examples":[{{"x":[1.5]}}]}}'"""
            ),
        }


@pytest.mark.parametrize(("characters", "is_given"), [(20_000, True), (20_001, False)])
def test_inputs_of_twenty_thousand_characters_are_given_to_copy(characters: int, *, is_given: bool) -> None:
    """Nobody copies more; a long body is written as it is, whatever is sent."""
    inputs = {"x": [1.5] * 3000}
    texts = _input_texts("serving_default", "predict", inputs)
    assert json.loads(shlex.split(texts["curl"].replace("\\\n", ""))[-1])["inputs"] == inputs
    words = {"x": ["w" * (characters - len(repr({"x": [""]})))]}
    assert len(repr(words)) == characters
    assert bool(_input_texts("serving_default", "predict", words)) is is_given
