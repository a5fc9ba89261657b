"""`fashion metadata` against a live server."""

from __future__ import annotations

import json

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
