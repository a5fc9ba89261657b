"""What a user would write: FastAPI and uvicorn around `tf.saved_model.load`.

Arguments: the port and a version directory.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class PredictBody(BaseModel):
    """The body of a request."""

    instances: list[list[list[int]]]


class Prediction(BaseModel):
    """One row of the answer."""

    probabilities: list[float]
    class_ids: int
    class_names: str


class PredictAnswer(BaseModel):
    """The answer."""

    predictions: list[Prediction]


def application(path: str) -> FastAPI:
    """The program."""
    app = FastAPI()
    predict_function = tf.saved_model.load(path).signatures["serving_default"]

    @app.post("/v1/models/fashion_mnist:predict")
    def predict(body: PredictBody) -> PredictAnswer:
        outputs = predict_function(images=tf.constant(np.array(body.instances, np.uint8)))
        rows = zip(*(outputs[name].numpy() for name in ("probabilities", "class_ids", "class_names")), strict=True)
        return PredictAnswer(
            predictions=[
                Prediction(probabilities=probabilities.tolist(), class_ids=class_id, class_names=name)
                for probabilities, class_id, name in rows
            ]
        )

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[2]), port=int(sys.argv[1]), log_level="error")
