"""Asks a server with tensorflow_serving's own Python stubs; prints the answers as JSON.

Arguments: the server's address, the recordings, the directory of the models.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


def main(address: str, recordings: str, models: str) -> None:
    """Sends every recorded request."""
    answers = {}
    with grpc.insecure_channel(address) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        model = model_service_pb2_grpc.ModelServiceStub(channel)
        for case in json.loads(Path(recordings).read_text()):
            request = text_format.Parse(case["request"].replace("${MODELS}", models), REQUESTS[case["method"]]())
            stub = prediction if hasattr(prediction, case["method"]) else model
            answers[case["name"]] = ask(getattr(stub, case["method"]), request)
    print(json.dumps(answers))


def ask(method: Any, request: Any) -> dict[str, str]:
    """The code, and the details or the message as text."""
    try:
        message = method(request, timeout=30)
    except grpc.RpcError as error:
        return {"code": error.code().name, "text": error.details() or ""}
    return {"code": "OK", "text": text_format.MessageToString(message)}


if __name__ == "__main__":
    main(*sys.argv[1:])
