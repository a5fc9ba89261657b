"""A loaded version as requests know it: its signatures, how it runs, and how its requests are merged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from serving.apis.messages import DT_FLOAT, ModelSpec, PredictResponse, SignatureDef
from serving.apis.tensors import Array
from serving.embedded.inference.batch_queue import BatchingOptions, Queue


class Servable(Protocol):
    """What a runtime makes of a version's directory: all that the server knows of a loaded model.

    signatures: by name. runtime: its name among the metrics. loop_free: the outputs, by tensor name, whose time is
    bounded by the size of the inputs, since no loop has a part in them.
    """

    signatures: Mapping[str, SignatureDef]
    runtime: str
    loop_free: frozenset[str]

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches`, given those of `feeds`. Raises ServingError."""

    def close(self) -> None:
        """Frees the model."""


class Signature(NamedTuple):
    """One signature of a version, with what every request needs of it looked up once.

    inputs: alias, tensor name and DataType, by alias. input_types: the last, by the first. aliases, fetches: of all
    outputs, by alias. spec: of its answers. spec_field: the same as a field of a PredictResponse on the wire.
    """

    definition: SignatureDef
    inputs: tuple[tuple[str, str, int], ...]
    input_types: Mapping[str, int]
    aliases: tuple[str, ...]
    fetches: tuple[str, ...]
    output_types: Mapping[str, int]
    spec: ModelSpec
    spec_field: bytes


class LoadedModel:
    """What the runtime loaded for one version, and what requests need to know of it. It goes with the version.

    batching: how its requests are merged, or None when they are not. signatures: by name. run, close, runtime,
    loop_free: as `Servable` has them. quick_bytes: of how many bytes the inputs may be for a run that is quick enough
    for the event loop, by the outputs' tensors. queues: the requests that wait, by what they must have in common to be
    merged. runs_alone: how many runs in a row had one request. answer_bytes: what the last answer took for each byte of
    its inputs, by the outputs' tensors, where it was large. probabilities: the tensors of all outputs of this name.
    """

    def __init__(self, name: str, number: int, servable: Servable, batching: BatchingOptions | None = None) -> None:
        self.name = name
        self.number = number
        self.batching = batching
        self.signatures = {key: self._signature(key, value) for key, value in servable.signatures.items()}
        self.run = servable.run
        self.close = servable.close
        self.runtime = servable.runtime
        self.loop_free = servable.loop_free
        self.quick_bytes: dict[tuple[str, ...], float] = {}
        self.queues: dict[Hashable, Queue] = {}
        self.runs_alone = 0
        self.answer_bytes: dict[Hashable, float] = {}
        outputs = [
            definition.outputs for definition in servable.signatures.values() if "probabilities" in definition.outputs
        ]
        infos = [output["probabilities"] for output in outputs]
        self.probabilities = frozenset(info.name for info in infos if info.dtype == DT_FLOAT)

    def spec(self, signature_name: str = "") -> ModelSpec:
        """The ModelSpec of an answer: the version that gave it is always named."""
        spec = ModelSpec(name=self.name, signature_name=signature_name)
        spec.version.value = self.number
        return spec

    def _signature(self, name: str, definition: SignatureDef) -> Signature:
        aliases = tuple(sorted(definition.outputs))
        return Signature(
            definition,
            tuple((alias, info.name, info.dtype) for alias, info in sorted(definition.inputs.items())),
            {alias: info.dtype for alias, info in definition.inputs.items()},
            aliases,
            tuple(definition.outputs[alias].name for alias in aliases),
            {alias: definition.outputs[alias].dtype for alias in aliases},
            self.spec(name),
            PredictResponse(model_spec=self.spec(name)).SerializeToString(),
        )
