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
from client.types import Metadata, Signature, TensorInfo
from client.web import forms
from tests.support.client_commands import APIS
from tests.support.console import FASHION
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
