"""Models of other people's, served with signatures of their own: what they are tested and warmed up with.

Inputs are made from the signature, seeded, by dtype and shape: floats and complex numbers from 0 to 1, whole numbers 0
and 1 (bytes: 0 to 255), strings "0" and "1", four rows, 32 for every other size that the signature leaves open. A model
that needs others is given them in a file (`--golden`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.apis.messages import ModelSpec, PredictionLog, PredictLog, PredictRequest
from serving.apis.self_test import Array, Case, MismatchError, largest_differences
from serving.apis.tensors import make_tensor_proto
from training.export.golden_file import Specs
from training.export.signatures import run

_ROWS = 4
_OPEN_SIZE = 32
# Every warmup request is read and run at each load: a batch of large inputs is left out.
_MAX_WARMUP_BYTES = 4 * 2**20


class OwnSignatures:
    """The signatures' functions, their inputs by name, and golden cases.

    functions: gives its outputs by name, called with its inputs by name. golden: cases from a file, which replace those
    that would be made. `untested` says of every signature without a case why it has none.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        inputs: Mapping[str, Specs],
        golden: Mapping[str, Case],
    ) -> None:
        self._functions = functions
        self._inputs = inputs
        self._cases: dict[str, Case] = {}
        self.untested: dict[str, str] = {}
        for name in sorted(functions):
            try:
                self._cases[name] = golden.get(name) or self._made_case(name)
            except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
                self.untested[name] = _reason(error)

    @property
    def notes(self) -> list[str]:
        """What is not tested."""
        return [
            f"{name} is not tested, as it cannot be run on inputs made from its signature: {reason}: --golden FILE.npz "
            "gives others"
            for name, reason in self.untested.items()
        ]

    def functions(self) -> Mapping[str, Any]:
        """The function of every signature."""
        return self._functions

    def golden_cases(self) -> dict[str, Case]:
        """The cases of the signatures that can be run."""
        return self._cases

    def warmup_records(self, model_name: str, size: int) -> Iterator[PredictionLog]:
        """The first golden row of each signature, repeated; one that takes a fixed number of rows gets them all."""
        for name, case in self._cases.items():
            inputs = case.inputs
            if all(spec.shape.rank and spec.shape[0] is None for spec in self._inputs[name].values()):
                inputs = {key: np.repeat(array[:1], size, axis=0) for key, array in inputs.items()}
                if size > 1 and sum(array.nbytes for array in inputs.values()) > _MAX_WARMUP_BYTES:
                    continue
            request = PredictRequest(model_spec=ModelSpec(name=model_name, signature_name=name))
            for key, array in inputs.items():
                request.inputs[key].CopyFrom(make_tensor_proto(array))
            yield PredictionLog(predict_log=PredictLog(request=request))

    def _made_case(self, name: str) -> Case:
        """Raises ValueError, and what TensorFlow raises, for a signature that cannot be run on what is made for it."""
        generator = np.random.default_rng(0)
        specs = self._inputs[name]
        inputs = {key: _made_input(key, specs[key], generator) for key in sorted(specs)}
        first, again = (Case(inputs, self._run(name, inputs)) for _ in range(2))
        for key, output in first.outputs.items():
            if output.dtype.kind in "fc" and not np.isfinite(output).all():
                raise ValueError(f"output {key} is not finite for inputs made from the signature")
        try:
            largest_differences({name: first}, lambda *_: again.outputs)
        except MismatchError as error:
            raise ValueError(f"{error} when it is asked twice") from error
        return first

    def _run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = run(self._functions[name], inputs)
        for key, array in arrays.items():
            _check_dtype(key, array.dtype)
        return arrays


def _reason(error: Exception) -> str:
    """One line: of TensorFlow's several the last that names no node of the graph."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "{{node" not in line]
    return lines[-1] if lines else type(error).__name__


def _made_input(name: str, spec: tf.TensorSpec, generator: np.random.Generator) -> Array:
    """Raises ValueError for an input of no known rank, or of a dtype that an archive cannot hold."""
    if spec.shape.rank is None:
        raise ValueError(f"input {name} may have any shape")
    sizes = spec.shape.as_list()
    shape = [(_OPEN_SIZE if axis else _ROWS) if size is None else size for axis, size in enumerate(sizes)]
    if spec.dtype == tf.string:
        return np.asarray(np.array([b"0", b"1"], object)[generator.integers(0, 2, shape)], object)
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    _check_dtype(name, dtype)
    if dtype.kind in "fc":
        return np.asarray(generator.random(shape)).astype(dtype)
    return np.asarray(generator.integers(0, 256 if dtype == np.uint8 else 2, shape)).astype(dtype)


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "V":
        raise ValueError(f"{name} is {dtype}, which no NumPy archive holds")
