"""Models as early converters wrote them, asked as TF Serving's own tests of TF Lite ask them.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/tensorflow_model_server_test.py,
testPredictOnTfLite and testPredictWithSignatureDefOnTfLite; the models are not copied, but built to their description.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from serving.apis import services
from serving.apis.messages import DT_FLOAT, PredictRequest
from tests.support.asking import call, predict
from tests.support.live import Server, running

MODELS = pytest.mark.parametrize("name", ["old", "old_signature"])


@pytest.fixture(scope="module")
def server(lite_toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Both models on one server."""
    config = tmp_path_factory.mktemp("old") / "models.config"
    models = "".join(
        f"config {{ name: '{name}' base_path: '{lite_toys / name}' model_platform: 'tensorflow' }}\n"
        for name in ("old", "old_signature")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    with running(f"--model_config_file={config}", "--prefer_tflite_model=true") as server:
        yield server


@MODELS
def test_what_tf_serving_s_tests_ask(server: Server, name: str) -> None:
    """One number for a tensor of one by one: answered under the alias y, by the version and the signature asked."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, "serving_default"
    request.inputs["x"].dtype = DT_FLOAT
    request.inputs["x"].float_val.append(2.0)
    request.inputs["x"].tensor_shape.dim.add(size=1)

    with grpc.insecure_channel(server.grpc) as channel:
        answer = call(channel, services.PREDICT, request)

    assert list(answer.outputs) == ["y"]
    assert (answer.outputs["y"].dtype, list(answer.outputs["y"].float_val)) == (DT_FLOAT, [3.0])
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [1]
    spec = answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == (name, "serving_default", 123)


@MODELS
def test_shapes(server: Server, name: str) -> None:
    """A converter that did not know a size wrote 1: fewer dimensions are answered as they came, others are refused."""
    with grpc.insecure_channel(server.grpc) as channel:
        for x in (2.0, [1.0, 2.0, 3.0], [[1.0], [2.0]]):
            y = predict(channel, name, {"x": np.array(x, np.float32)})["y"]
            assert y.tolist() == (np.array(x) / 2 + 2).tolist()
    answer = httpx.post(f"http://{server.rest}/v1/models/{name}:predict", json={"instances": [1.0, 2.0]})
    assert answer.json() == {"predictions": [2.5, 3.0]}
    answer = httpx.post(f"http://{server.rest}/v1/models/{name}:predict", json={"instances": [[1.0, 2.0]]})
    assert (answer.status_code, "takes the shape [1,1], not [1,2]" in answer.text) == (400, True)
