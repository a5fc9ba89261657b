"""`fashion metadata` against a live server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from aiopenapi3 import OpenAPI
from openapi_spec_validator import validate

from client import connect
from client.transports.fake import FakeTransport
from client.types import Metadata, Signature, TensorInfo
from serving.apis.openapi import document
from tests.support.client_commands import APIS, answering, run
from tests.support.road import Road

_SIGNATURES = """\
fashion_mnist, version 1

classify  (tensorflow/serving/classify)
  -> inputs  string [N]
  <- classes  string [N, 10]
  <- scores  float [N, 10]

encoded_images  (tensorflow/serving/predict)
  -> image_bytes  string [N]
  <- class_ids  int64 [N]
  <- class_names  string [N]
  <- probabilities  float [N, 10]

float_images  (tensorflow/serving/predict)
  -> images  float [N, 28, 28]
  <- probabilities  float [N, 10]

serving_default  (tensorflow/serving/predict)
  -> images  uint8 [N, 28, 28]
  <- class_ids  int64 [N]
  <- class_names  string [N]
  <- probabilities  float [N, 10]
"""


@APIS
def test_it_prints_the_signatures(road: Road, api: str) -> None:
    """Both APIs read the same metadata; --json has DataType's names."""
    assert run(road, api, "metadata").output == _SIGNATURES
    report = json.loads(run(road, api, "metadata", "--json").output)
    assert report["signatures"]["float_images"]["inputs"] == {"images": {"dtype": "DT_FLOAT", "shape": [-1, 28, 28]}}


@APIS
def test_a_client_of_openapi_makes_a_prediction(
    road: Road, pictures: dict[Path, npt.NDArray[np.uint8]], api: str
) -> None:
    """One that knows nothing of the API but the document, which is the same over gRPC but for the server's address."""
    printed = json.loads(run(road, api, "metadata", "--openapi").output)
    validate(printed)
    [server] = printed["servers"]
    assert server["url"] == (road.servers["rest"] if api == "rest" else "http://127.0.0.1:8501")
    server["url"] = road.servers["rest"]
    client = OpenAPI(f"{server['url']}/openapi.json", printed)
    answer = asyncio.run(
        client._.fashion_mnist.fashion_mnist_predict(
            data={"instances": [image.tolist() for image in pictures.values()]}
        )
    )
    with connect(road.servers["grpc"]) as connection:
        expected = connection.predict(list(pictures.values()))
    assert [row.class_names for row in answer.predictions] == [prediction.class_name for prediction in expected]


_METADATA = Metadata(
    "m",
    7,
    {
        "a": Signature(
            {"x": TensorInfo("DT_HALF", (-1, 2)), "y": TensorInfo("DT_STRING", None)},
            {"z": TensorInfo("DT_INT64", ())},
            "tensorflow/serving/predict",
        ),
        "b": Signature({}, {}, "tensorflow/serving/classify"),
    },
)


def test_text_and_json_of_any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and outputs in their order; JSON has everything."""
    fashion = answering(monkeypatch, FakeTransport(model_metadata=_METADATA))
    assert fashion("metadata").stdout == (
        "m, version 7\n\na  (tensorflow/serving/predict)\n  -> x  half [N, 2]\n  -> y  string [...]\n  <- z  int64 []\n"
        "\nb  (tensorflow/serving/classify)\n"
    )
    everything = {
        "model_name": "m",
        "version": 7,
        "signatures": {
            "a": {
                "inputs": {"x": {"dtype": "DT_HALF", "shape": [-1, 2]}, "y": {"dtype": "DT_STRING", "shape": None}},
                "outputs": {"z": {"dtype": "DT_INT64", "shape": []}},
                "method_name": "tensorflow/serving/predict",
            },
            "b": {"inputs": {}, "outputs": {}, "method_name": "tensorflow/serving/classify"},
        },
    }
    assert fashion("metadata", "--json").stdout == json.dumps(everything, indent=2) + "\n"


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        ([], "http://127.0.0.1:8501"),
        (["grpc://a", "https://b:1/p", "http://c"], "https://b:1/p"),
        (["grpc://a"], "http://127.0.0.1:8501"),
    ],
)
def test_the_documents_server_is_the_first_that_speaks_rest(
    monkeypatch: pytest.MonkeyPatch, servers: list[str], url: str
) -> None:
    """Or the usual one on this machine."""
    fashion = answering(monkeypatch, FakeTransport(model_metadata=_METADATA))
    printed = fashion("metadata", "--openapi", *(word for server in servers for word in ("--server", server))).stdout
    assert printed == json.dumps(document({"m": _METADATA.signatures}, url), indent=2) + "\n"
    assert [server["url"] for server in json.loads(printed)["servers"]] == [url]
