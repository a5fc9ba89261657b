"""A loaded `model.tflite` as a servable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fashion_common.layout import LITE_MODEL_FILE
from serving.apis.messages import SignatureDef
from serving.apis.status import Code
from serving.apis.tensors import Array
from serving.embedded.inference.model import Servable
from serving.embedded.loading.litert.adapters import with_pictures
from serving.embedded.loading.litert.flatbuffer import ModelFile
from serving.embedded.loading.litert.interpreters import Function, Interpreters
from serving.embedded.loading.litert.signatures import read_signatures
from serving.embedded.loading.litert.trial import check_survival
from serving.embedded.models.manifest import read_manifest
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, InvalidArgument, ServingError, quoted

# A client may ask for any subset of the outputs; beyond this many, steps are made for one use.
_MAX_STEPS = 64


class _Step(NamedTuple):
    """What one subgraph adds to a run: the names of the tensors that are fed and fetched, as its function has them.

    ranks: of the inputs that have no size but 1, else 0; empty where there is none.
    """

    function: Function
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    ranks: tuple[int, ...]


class LiteModel:
    """A loaded model: `signatures` by name, and `run`. Threads may share it.

    pools: how many interpreters are kept for the next run. interpreters_per_pool: over how many a batch is split.
    Raises ValueError or RuntimeError, with LiteRT's text, for what is no model that it can run.
    """

    def __init__(self, content: bytes, pools: int = 1, interpreters_per_pool: int = 1) -> None:
        # This verifies the bytes.
        self._interpreters = Interpreters(content, pools * interpreters_per_pool, interpreters_per_pool)
        file = ModelFile(content)
        self._subgraphs = file.subgraphs()
        signatures = read_signatures(file)
        self.signatures: Mapping[str, SignatureDef] = signatures.definitions
        self._inputs, self._outputs = signatures.inputs, signatures.outputs
        self.runtime = "LiteRT"
        self.loop_free = frozenset[str]() if file.has_loops() else frozenset(self._outputs)
        self._steps: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[_Step, ...]] = {}
        # What a subgraph lacks, such as an operation, is found here; but where sizes are open besides that of the batch
        # by the first run, as LiteRT would try with 1, which a convolution may not take.
        self._interpreters.prepare(
            {
                tensor.subgraph
                for tensor in self._outputs.values()
                if not any(-1 in other.shape[1:] for other in self._subgraphs[tensor.subgraph].inputs)
            }
        )

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches` when the tensors named by `feeds` have these values.

        Raises InvalidArgument with LiteRT's text.
        """
        key = (tuple(feeds), tuple(fetches))
        steps = self._steps.get(key) or self._planned(*key)
        values: dict[str, Array] = {}
        try:
            for step in steps:
                arrays = [feeds[name] for name in step.feeds]
                outputs = (
                    self._run_lifted(step, arrays) if step.ranks else self._interpreters.run(step.function, arrays)
                )
                values.update(zip(step.fetches, outputs, strict=True))
        except (ValueError, RuntimeError) as error:
            raise InvalidArgument(str(error).strip()) from error
        return [values[name] for name in fetches]

    def close(self) -> None:
        """Frees the interpreters."""
        self._interpreters.close()

    def _run_lifted(self, step: _Step, arrays: Sequence[Array]) -> list[Array]:
        """Gives inputs the sizes of 1 at their ends that they lack, and takes them from outputs of the same shapes.

        Early converters wrote 1 for each size that they did not know. TF Serving resizes such an input to whatever
        comes; here its rank stays, which the operations were made for.
        """
        lifted = [
            array.reshape(array.shape + (1,) * (rank - array.ndim))
            for array, rank in zip(arrays, step.ranks, strict=True)
        ]
        shapes = {after.shape: before.shape for before, after in zip(arrays, lifted, strict=True)}
        outputs = self._interpreters.run(step.function, lifted)
        return [output.reshape(shapes.get(output.shape, output.shape)) for output in outputs]

    def _planned(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> tuple[_Step, ...]:
        """The steps, one for each subgraph: MultiInference asks several signatures at once."""
        for names, known in ((feeds, self._inputs), (fetches, self._outputs)):
            if unknown := [name for name in names if name not in known]:
                raise InvalidArgument(f"Tensor {quoted(unknown[0])} is none of the model's signatures'")
        numbers = dict.fromkeys(self._outputs[name].subgraph for name in fetches)
        steps = tuple(self._step(number, feeds, fetches) for number in numbers)
        if len(self._steps) < _MAX_STEPS:
            self._steps[feeds, fetches] = steps
        return steps

    def _step(self, number: int, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> _Step:
        names = {self._inputs[name].number: name for name in feeds if self._inputs[name].subgraph == number}
        inputs = self._subgraphs[number].inputs
        for tensor in inputs:
            # An input that is not fed would have the value of somebody's earlier request.
            if tensor.number not in names:
                raise InvalidArgument(f"You must feed a value for the tensor {tensor.name}")
        own_fetches = tuple(name for name in fetches if self._outputs[name].subgraph == number)
        function = Function(number, inputs, tuple(self._outputs[name].number for name in own_fetches))
        ranks = tuple(len(tensor.shape) if set(tensor.shape) == {1} else 0 for tensor in inputs)
        feeds = tuple(names[tensor.number] for tensor in inputs)
        return _Step(function, feeds, own_fetches, ranks if any(ranks) else ())


def load(directory: VersionDirectory, *, pools: int = 0, interpreters_per_pool: int = 0) -> Servable:
    """Loads the model in a version's directory. Raises ServingError.

    pools: 0 for one a CPU. interpreters_per_pool: 0 for one.
    """
    path = directory.file(LITE_MODEL_FILE)
    if path is None:
        raise FailedPrecondition(
            f"The version has no {LITE_MODEL_FILE}, and LiteRT serves nothing else: export it anew, or with TensorFlow "
            "installed leave --runtime out"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be read: {error.strerror}") from error
    if LITE_MODEL_FILE not in (read_manifest(directory) or ()):
        check_survival(path, content)
    try:
        return with_pictures(LiteModel(content, pools or os.cpu_count() or 1, interpreters_per_pool or 1))
    except (ValueError, RuntimeError) as error:
        raise ServingError(f"{path} cannot be loaded: {_reason(str(error))}", Code.INVALID_ARGUMENT) from error


def _reason(text: str) -> str:
    """LiteRT's text with a fix, where one is known."""
    if not text or "not a valid Flatbuffer" in text or "must be specified" in text:
        return "it is empty, cut or no LiteRT model: copy the version again"
    missing = re.search(r"\((Flex\w+)\) failed to prepare|custom op: (\w+)", text)
    if missing:
        return f"LiteRT has no operation {missing[1] or missing[2]}: convert the model to its own operations"
    return text.strip()
