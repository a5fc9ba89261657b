"""A classifier of ten garments as it is served: four signatures over one set of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from serving.apis.messages import (
    ClassificationRequest,
    ClassifyLog,
    ExampleList,
    Input,
    ModelSpec,
    PredictionLog,
    PredictLog,
    PredictRequest,
    TensorProto,
    TensorShapeProto,
)
from serving.apis.self_test import Case
from serving.apis.tensors import make_tensor_proto
from training.export.golden import golden_cases, image_example, image_file
from training.export.golden_file import read_golden
from training.export.signatures import served_signatures, write_saved_model


class Garments:
    """A `Form`. model: maps float32 [N, 28, 28], 0 to 1, to probabilities [N, 10]. golden: as in `read_golden`."""

    class_names = CLASS_NAMES

    def __init__(self, model: keras.Model, *, lite_required: bool = True, golden: Path | None = None) -> None:
        self.model = model
        self.lite_required = lite_required
        self._golden = golden

    def functions(self) -> Mapping[str, Any]:
        """As in `served_signatures`."""
        return served_signatures(self.model)

    def golden_cases(self) -> dict[str, Case]:
        """As in `golden.golden_cases`, but for those that were given. Raises TrainingUsageError."""
        cases = golden_cases(self.model)
        if self._golden:
            functions = self.functions()
            inputs = {name: _inputs(function) for name, function in functions.items()}
            outputs = {name: function.structured_outputs for name, function in functions.items()}
            cases |= read_golden(self._golden, inputs, outputs)
        return cases

    def write(self, path: Path) -> None:
        """As in `write_saved_model`. Raises OSError, OpError."""
        write_saved_model(self.model, path)

    def warmup_records(self, model_name: str, size: int) -> Iterator[PredictionLog]:
        """Every signature with black images."""
        return warmup_records(model_name, size)

    def describe(self) -> dict[str, Any]:
        """Name, layers and number of parameters."""
        return describe(self.model)


def _inputs(function: Any) -> dict[str, Any]:
    """The TensorSpec of each input of a traced function, by name."""
    positional, named = function.structured_input_signature
    return {spec.name: spec for spec in (*positional, *named.values())}


def describe(model: keras.Model) -> dict[str, Any]:
    """A Keras model's name, layers and number of parameters, for the manifest."""
    return {
        "name": model.name,
        "layers": [layer.name for layer in model.layers],
        "parameters": model.count_params(),
    }


def warmup_records(model_name: str, size: int) -> Iterator[PredictionLog]:
    """The warmup requests of a batch size: every signature with black images."""
    black = image_file(np.zeros(IMAGE_SHAPE, np.uint8), "PNG")
    inputs = {
        "serving_default": ("images", _filled(np.uint8(0), size, *IMAGE_SHAPE)),
        "encoded_images": ("image_bytes", _filled(black, size)),
        "float_images": ("images", _filled(np.float32(0), size, *IMAGE_SHAPE)),
    }
    for signature, (name, tensor) in inputs.items():
        spec = ModelSpec(name=model_name, signature_name=signature)
        yield PredictionLog(predict_log=PredictLog(request=PredictRequest(model_spec=spec, inputs={name: tensor})))
    spec = ModelSpec(name=model_name, signature_name="classify")
    examples = Input(example_list=ExampleList(examples=[image_example(black)] * size))
    yield PredictionLog(classify_log=ClassifyLog(request=ClassificationRequest(model_spec=spec, input=examples)))


def _filled(value: np.uint8 | np.float32 | bytes, *shape: int) -> TensorProto:
    """A tensor of one value: written once, since readers repeat the last value for what the shape asks for.

    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
    """
    tensor = make_tensor_proto(value, tensor_content=False)
    tensor.tensor_shape.CopyFrom(TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape]))
    return tensor
