"""`fashion metadata` against a live server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from aiopenapi3 import OpenAPI
from openapi_spec_validator import validate

from client import connect
from tests.support.client_commands import APIS, run
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
    document = json.loads(run(road, api, "metadata", "--openapi").output)
    validate(document)
    [server] = document["servers"]
    assert server["url"] == (road.servers["rest"] if api == "rest" else "http://127.0.0.1:8501")
    server["url"] = road.servers["rest"]
    client = OpenAPI(f"{server['url']}/openapi.json", document)
    answer = asyncio.run(
        client._.fashion_mnist.fashion_mnist_predict(
            data={"instances": [image.tolist() for image in pictures.values()]}
        )
    )
    with connect(road.servers["grpc"]) as connection:
        expected = connection.predict(list(pictures.values()))
    assert [row.class_names for row in answer.predictions] == [prediction.class_name for prediction in expected]
