"""Any other model's form and its answers, over both APIs of a live server whose versions differ in their bias."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from client.connection import open_transports
from client.transports.base import Exchange
from client.types import Call, Metadata, ModelSpec, Signature, TensorInfo
from client.web import forms
from tests.support.client_commands import APIS
from tests.support.clocks import Clock
from tests.support.console import FASHION
from tests.support.fake_server import FakeServer
from tests.support.live import KITCHEN, recorded_server
from tests.support.page import page, picture

# With the command on the path, as a user has it.
ENVIRONMENT = os.environ | {"PATH": f"{Path(FASHION).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The server's URL by API."""
    with recorded_server(tmp_path_factory.mktemp("kitchen"), KITCHEN) as server:
        yield {"grpc": f"grpc://{server.grpc}", "rest": f"http://{server.rest}"}


def _ask(url: str, body: str | bytes = b"") -> httpx.Response:
    """The page's answer to a question, or its state without one."""

    async def ask() -> httpx.Response:
        async with page(open_transports([url], 10, None, asynchronous=True), url, "kitchen") as browser:
            return await (browser.post("/api/infer", content=body) if body else browser.get("/api/state"))

    return asyncio.run(ask())


def _infer(url: str, signature_name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    response = _ask(url, json.dumps({"signature_name": signature_name, "inputs": inputs}))
    assert response.status_code == 200, response.text
    return dict(response.json())


def _outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: (output["is"], json.loads(output["text"])) for output in answer["outputs"]}


@APIS
def test_the_samples_of_every_signature_are_answered(servers: dict[str, str], api: str) -> None:
    """As they stand in the form, and when the form is left empty."""
    state = _ask(servers[api]).json()
    assert state["garments"] is False
    assert [signature["name"] for signature in state["signatures"]][:3] == ["bytes_sum", "classify", "dtypes"]
    for signature in state["signatures"]:
        samples = {field["name"]: json.loads(field["sample"]) for field in signature["inputs"]}
        answers = _infer(servers[api], signature["name"], samples)["answers"]
        assert [(answer["label"], answer["version"]) for answer in answers] == [("stable", 1), ("canary", 2)]
        if signature["method"] == "predict":
            empty = _infer(servers[api], signature["name"], dict.fromkeys(samples))["answers"]
            shapes = [[output["is"] for output in answer["outputs"]] for answer in (*answers, *empty)]
            assert shapes[:2] == shapes[2:]


@APIS
def test_answers_of_two_versions_are_marked_where_they_differ(servers: dict[str, str], api: str) -> None:
    """The bias does; what does not depend on it is the same."""
    answer = _infer(servers[api], "serving_default", {"x": [1, 2.5]})
    assert [_outputs(each) for each in answer["answers"]] == [
        {"y": ("float32 [2]", [2.5, 3.25])},
        {"y": ("float32 [2]", [3.5, 4.25])},
    ]
    assert (answer["differs"], answer["answers"][1]["differences"]) == (True, ["y"])
    answer = _infer(servers[api], "bytes_sum", {"pixels": [[1, 2, 3, 4]]})
    assert (answer["differs"], answer["answers"][1]["differences"]) == (False, [])


@APIS
def test_every_dtype_is_read_and_shown(servers: dict[str, str], api: str) -> None:
    """Whole numbers keep their digits; bytes come as base64 and go as text; NaN and infinity are words."""
    inputs = {"f32": [0.1], "f64": [0.1], "flag": [False], "i32": [-5], "i64": [2**53 + 1], "u8": [255]}
    first = _infer(servers[api], "dtypes", {**inputs, "text": [{"b64": "w7w="}]})["answers"][0]
    values = [values for _, values in _outputs(first).values()]
    assert [2**53 + 1] in values
    assert ["ü"] in values
    assert [0.1] in values
    texts = str(_infer(servers[api], "non_finite", {"x": [0, -1]})["answers"][0]["outputs"])
    assert '["-inf", "nan"]' in texts


@APIS
def test_examples_are_classified(servers: dict[str, str], api: str) -> None:
    """Features by name, as the REST API has them."""
    state = _ask(servers[api]).json()
    [classify] = [signature for signature in state["signatures"] if signature["name"] == "classify"]
    assert classify["inputs"][0]["name"] == "examples"
    [output] = _infer(servers[api], "classify", {"examples": [{"x": 1.0}]})["answers"][0]["outputs"]
    assert output["name"] == "classes"
    assert len(json.loads(output["text"])) == 1


@APIS
@pytest.mark.parametrize(
    ("signature_name", "inputs"),
    [
        ("serving_default", {"x": [1.0, 2.5]}),
        ("bytes_sum", {"pixels": [[1, 2, 3, 4]]}),
        ("regress", {"examples": [{"x": 1.0}]}),
    ],
)
def test_what_is_given_to_copy_gives_the_same_answer(
    servers: dict[str, str], api: str, signature_name: str, inputs: dict[str, Any]
) -> None:
    """`fashion call` and Python over the API that the page uses, curl over REST."""
    answer = _infer(servers[api], signature_name, inputs)
    [output] = answer["answers"][0]["outputs"]
    python = [sys.executable, "-c", answer["snippets"]["Python"]]
    printed = subprocess.run(python, capture_output=True, text=True, check=True, timeout=60).stdout
    numbers = json.loads(output["text"])
    assert all(f"{number:g}" in printed for number in numbers)
    shell = ["/bin/sh", "-c", answer["snippets"]["fashion call"]]
    printed = subprocess.run(shell, capture_output=True, text=True, check=True, timeout=60, env=ENVIRONMENT).stdout
    assert [*json.loads(printed).values()] == [numbers]
    curl = answer["snippets"]["curl"].replace("http://127.0.0.1:8501", servers["rest"])
    shell = ["/bin/sh", "-c", f"{curl} -s"]
    received = json.loads(subprocess.run(shell, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert received.get("outputs", received.get("results")) == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ("{", "the body is no JSON: "),
        ("[" * 100_000, "the body is no JSON: "),
        ("[]", 'expected {"signature_name": NAME, "inputs": {NAME: VALUES}}'),
        ('{"signature_name": "x", "inputs": 1}', 'expected {"signature_name": NAME, "inputs": {NAME: VALUES}}'),
        ('{"signature_name": "none", "inputs": {}}', "kitchen has no signature 'none': it has bytes_sum, "),
        ('{"signature_name": "serving_default", "inputs": {"y": [1]}}', "`y` is no input of serving_default: "),
        ('{"signature_name": "serving_default", "inputs": {"x": [["a"]]}}', "`x` takes float32 [N], got "),
        ('{"signature_name": "dtypes", "inputs": {"text": [{"b64": "?"}]}}', "b64: "),
        ('{"signature_name": "classify", "inputs": {"examples": [1]}}', 'examples are a list of objects: [{"x": 1.0}]'),
        ('{"signature_name": "classify", "inputs": {}}', 'examples are a list of objects: [{"x": 1.0}]'),
    ],
)
def test_what_the_model_cannot_take_is_said_before_it_is_asked(
    servers: dict[str, str], question: str, error: str
) -> None:
    """In the words of the library."""
    response = _ask(servers["rest"], question)
    assert response.status_code == 422
    assert response.json()["error"].startswith(error)


def test_a_sample_that_nobody_knows_or_would_read_is_left_empty() -> None:
    """Sizes that are free, more than a thousand values, and complex numbers, which JSON has not."""
    inputs = {
        "free": TensorInfo("DT_FLOAT", (-1, -1, 3)),
        "any": TensorInfo("DT_FLOAT", None),
        "edge": TensorInfo("DT_UINT8", (-1, 1000)),
        "large": TensorInfo("DT_UINT8", (-1, 1001)),
        "complex": TensorInfo("DT_COMPLEX64", (-1,)),
        "scalar": TensorInfo("DT_FLOAT", ()),
    }
    [signature] = forms.form(Metadata("m", 1, {"s": Signature(inputs, {}, "tensorflow/serving/predict")}))
    samples = {field["name"]: field["sample"] for field in signature["inputs"]}
    assert {name for name, sample in samples.items() if sample} == {"edge", "scalar"}
    assert len(json.loads(samples["edge"])[0]) == 1000
    assert json.loads(samples["scalar"]) == 0.64


def test_a_large_answer_is_shown_in_part_and_a_large_question_is_not_given_to_copy(servers: dict[str, str]) -> None:
    """A thousand values are shown whole."""
    assert len(json.loads(forms._text(np.zeros(1000)))) == 1000
    text = forms._text(np.zeros((2, 501)))
    assert text.endswith("]\n... the first 1000 of 1002 values")
    answer = _infer(servers["grpc"], "serving_default", {"x": [0.123456789] * 2000})
    assert answer["snippets"] == {}


def test_a_page_that_is_not_our_models_has_no_pictures(servers: dict[str, str]) -> None:
    """A picture that is sent all the same is refused in the library's words."""

    async def ask() -> httpx.Response:
        transports = open_transports([servers["grpc"]], 10, None, asynchronous=True)
        async with page(transports, servers["grpc"], "kitchen") as browser:
            return await browser.post("/api/predict", content=picture())

    response = asyncio.run(ask())
    assert response.status_code == 422
    assert response.json()["error"].startswith(
        "the signature 'serving_default' takes [N], which no images of 28x28 fit"
    )


class _Versions(FakeServer):
    """Any model's two versions in memory: of `serving_default`, x and what its version adds to it."""

    def __init__(self, *differences: Any, dtype: str = "DT_FLOAT", **labels: int) -> None:
        super().__init__(**labels)
        self.differences = differences
        info = TensorInfo(dtype, (-1,))
        self.model_metadata = Metadata(
            "m", 1, {"serving_default": Signature({"x": info}, {"y": info}, "tensorflow/serving/predict")}
        )
        self.asked_inputs: list[Any] = []

    def infer(self, model: ModelSpec, call: Call, signature: Signature) -> Exchange[dict[str, Any]]:
        """Read as the difference of the version, whatever x is."""
        self.asked_inputs.append(call.inputs["x"])
        version = model.version or 1
        return Exchange(call, lambda _: {"y": np.asarray(self.differences[version - 1])})


def _two_answers(server: _Versions, inputs: dict[str, Any]) -> dict[str, Any]:
    async def ask() -> httpx.Response:
        async with page([server], model_name="m") as browser:
            question = {"signature_name": "serving_default", "inputs": inputs}
            return await browser.post("/api/infer", content=json.dumps(question))

    response = asyncio.run(ask())
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        (np.array([1.0], np.float32), np.array([1.0001], np.float32), False),
        (np.array([1.0], np.float32), np.array([1.0003], np.float32), True),
        (np.array([0.0], np.float32), np.array([0.00009], np.float32), False),
        (np.array([0.0], np.float32), np.array([0.00011], np.float32), True),
        (np.array([1000.0], np.float32), np.array([1000.09], np.float32), False),
        (np.array([np.nan], np.float32), np.array([np.nan], np.float32), False),
        (np.array([1.0], np.float32), np.array([1.0, 1.0], np.float32), True),
        (np.array([1.0], np.float32), np.array([1.0], np.float64), False),
        (np.array([1]), np.array([1]), False),
        (np.array([1]), np.array([2]), True),
        (np.array([1]), np.array([1.00001], np.float32), True),
        (np.array([b"a"], object), np.array([b"a"], object), False),
        (np.array([b"a"], object), np.array([b"b"], object), True),
        (np.array([1j], np.complex64), np.array([1.00001j], np.complex64), False),
    ],
)
def test_answers_differ_by_more_than_rounding(first: Any, second: Any, differs: bool) -> None:
    """A ten thousandth of the value, or one: of floats only; other outputs are the same or are not."""
    answer = _two_answers(_Versions(first, second, stable=1, canary=2), {"x": [1.0]})
    stable, canary = answer["answers"]
    assert (answer["differs"], canary["differences"]) == (differs, ["y"] if differs else [])
    assert "differences" not in stable
    assert [each["outputs"][0]["name"] for each in answer["answers"]] == ["y", "y"]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (np.array([0.1, np.inf], np.float32), "float32 [2]", '[0.1, "inf"]'),
        (np.array([[1 / 3]], np.float16), "float16 [1, 1]", "[[0.3333]]"),
        (np.array([1 / 3]), "float64 [1]", "[0.3333333333333333]"),
        (np.array(7), "int64 []", "7"),
        (np.array([True]), "bool [1]", "[true]"),
        (np.array(["ä".encode(), b"\xff"], object), "string [2]", '["\\u00e4", "\\\\xff"]'),
        (np.array([1 + 2j], np.complex64), "complex64 [1]", '["(1+2j)"]'),
        (np.arange(1001), "int64 [1001]", f"{list(range(1000))}\n... the first 1000 of 1001 values"),
        (np.arange(1000), "int64 [1000]", f"{list(range(1000))}"),
    ],
)
def test_an_output_is_shown_with_its_dtype_and_shape(value: Any, kind: str, text: str) -> None:
    """Floats as short as they are exact; what JSON has no number for is text; of a large one a thousand values."""
    [answer] = _two_answers(_Versions(value, value, stable=1), {"x": [1.0]})["answers"]
    assert answer["outputs"] == [{"name": "y", "is": kind, "text": text}]
    assert answer.keys() == {"label", "version", "ms", "outputs"}
    assert (answer["label"], answer["version"]) == ("stable", 1)


def test_an_input_that_was_left_out_is_sampled() -> None:
    """Or is null: a row of noise takes its place, in what is given to copy too."""
    for inputs in ({}, {"x": None}):
        server = _Versions(np.array([1], np.float32), np.array([1], np.float32), stable=1, canary=1)
        answer = _two_answers(server, inputs)
        [sent] = server.asked_inputs
        sample = np.frombuffer(sent.content, np.float32)
        assert sample.shape == (1,)
        assert f"connection.infer({{'x': [{float(str(sample[0]))}]}}, " in answer["snippets"]["Python"]
    server = _Versions(np.array([1], np.float32), np.array([1], np.float32), stable=1)
    _two_answers(server, {"x": [2.5, 3]})
    assert np.frombuffer(server.asked_inputs[0].content, np.float32).tolist() == [2.5, 3]


def test_an_answer_has_the_milliseconds_that_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a hundredth; what was to be known of the model before is no part of them."""
    clock = Clock()

    class Timed(_Versions):
        async def send(self, request: Any, timeout: float) -> Any:
            clock.now += 0.25 if request is None else 0.0123456
            return await super().send(request, timeout)

    monkeypatch.setattr(forms, "time", clock)
    [answer] = _two_answers(Timed(np.array([1], np.float32), stable=1), {"x": [1.0]})["answers"]
    assert answer["ms"] == 12.35


def test_a_form_has_a_field_for_each_input() -> None:
    """What it takes, and a sample of one row: floats of two digits; of examples there is one field."""
    infos = {
        "f": TensorInfo("DT_FLOAT", (-1, 2)), "b": TensorInfo("DT_BFLOAT16", (-1,)), "i": TensorInfo("DT_INT64", (3,)),
        "s": TensorInfo("DT_STRING", (-1,)), "flag": TensorInfo("DT_BOOL", ()),
    }  # fmt: skip
    signatures = {
        "p": Signature(infos, {}, "tensorflow/serving/predict"),
        "c": Signature({"inputs": TensorInfo("DT_STRING", (-1,))}, {}, "tensorflow/serving/classify"),
    }
    predict, classify = forms.form(Metadata("m", 1, signatures))
    assert (predict["name"], predict["method"]) == ("p", "predict")
    assert [(field["name"], field["takes"]) for field in predict["inputs"]] == [
        ("f", "float32 [N, 2]"), ("b", "bfloat16 [N]"), ("i", "int64 [3]"), ("s", "string [N]"), ("flag", "bool []"),
    ]  # fmt: skip
    samples = {field["name"]: json.loads(field["sample"]) for field in predict["inputs"]}
    assert samples == {"f": [[0.64, 0.27]], "b": [0.64], "i": [8, 6, 5], "s": ["sample"], "flag": samples["flag"]}
    assert isinstance(samples["flag"], bool)
    assert classify == {
        "name": "c",
        "method": "classify",
        "inputs": [
            {
                "name": "examples",
                "takes": "a list of tf.Examples, each an object of features",
                "sample": '[{"x": 1.0}]',
            }
        ],
    }
