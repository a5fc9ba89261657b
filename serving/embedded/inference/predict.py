"""Predict: the one place where gRPC and REST meet.

Order of checks and texts are TF Serving's: the servable, the signature, the inputs' names, their contents, the output
filter, and then what TensorFlow says.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from serving.apis import tensors
from serving.apis.messages import DT_STRING, ModelSpec, PredictRequest, SignatureDef, TensorProto
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.apis.tensors import Array, NdarraySize
from serving.embedded.inference.batch_queue import Phases
from serving.embedded.inference.exchange import Exchange, answer_predict, ask_predict, predict_head
from serving.embedded.inference.model import LoadedModel, Signature
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.versions import Version
from serving.errors import FailedPrecondition, Internal, InvalidArgument, ResourceExhausted, quoted

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


# How many elements of --max_request_elements a string counts as: TensorFlow copies each, and holds the interpreter.
STRING_COST = 4
# Of what a request says, an error quotes no more names.
_MAX_NAMES = 32


class Account(Protocol):
    """Who pays for the bytes of a request and its answer: the call. size: what it pays for. deadline: in seconds.

    span: of a call that is traced.
    """

    size: int
    deadline: float | None

    @property
    def span(self) -> Phases | None:
        """What is told how far the call has come."""

    def charge(self, size: int) -> None:
        """Takes so many bytes more. Raises ResourceExhausted when there are too few."""

    def refund(self, size: int) -> None:
        """Gives bytes back."""

    def sample(self, model: str) -> Exchange | None:
        """What to keep of the request to a model, or None for nothing."""


def _inline(_: int, work: Callable[[], Any]) -> Awaitable[Any]:
    async def run() -> Any:
        return work()

    return run()


class Engine(NamedTuple):
    """What requests need of the server.

    use: the version that a request asks for, counted as in use. run: runs it. Both raise ServingError.
    check_method_names: whether a signature must have a method name that TF Serving knows. offload: does work away from
    the event loop where it is large, given its bytes.
    """

    use: Callable[[ModelSpec], Version[LoadedModel]]
    run: Callable[[Run], Awaitable[list[Array]]]
    limits: Limits
    check_method_names: bool = False
    offload: Callable[[int, Callable[[], Any]], Awaitable[Any]] = _inline


class Plan(NamedTuple):
    """A request that is read: its signature, the outputs by alias, and the run that gives them in this order."""

    signature: Signature
    aliases: Sequence[str]
    run: Run


async def predict(
    engine: Engine,
    version: Version[LoadedModel],
    signature_name: str,
    inputs: Mapping[str, TensorProto | Array],
    output_filter: Sequence[str] = (),
    deadline: float | None = None,
    account: Account | None = None,
    spec: ModelSpec | None = None,
) -> tuple[Signature, dict[str, Array]]:
    """Runs a version that its caller has in use; gives the signature that did it, and the outputs by name.

    inputs: by the signature's names, arrays or messages. deadline: in seconds of `time.monotonic`. account: the call,
    which may be recorded. spec: what it asked for. Raises ServingError.
    """
    plan = planned(engine, version, find_signature(engine, version, signature_name), inputs, output_filter, deadline)
    exchange = None if account is None else account.sample(version.name)
    if exchange is not None:
        head = predict_head(PredictRequest(model_spec=spec, output_filter=output_filter))
        ask_predict(exchange, head, plan.signature, plan.run.feeds)
    outputs = dict(zip(plan.aliases, await engine.run(with_span(plan.run, account)), strict=True))
    if exchange is not None:
        answer_predict(exchange, plan.signature, outputs)
    return plan.signature, outputs


def with_span(run: Run, account: Account | None) -> Run:
    """A run with the span of its call, whose request is read."""
    span = None if account is None else account.span
    if span is None:
        return run
    span.parsed()
    return run._replace(spans=(span,))


def find_signature(engine: Engine, version: Version[LoadedModel], signature_name: str) -> Signature:
    """The signature that a request names, or the default. Raises ServingError."""
    name = signature_name or DEFAULT_SIGNATURE
    signature = version.servable.signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{quoted(name)}" not found.')
    if engine.check_method_names:
        _check_predict_method(signature.definition)
    return signature


def input_size(signature: Signature, inputs: Mapping[str, TensorProto], limits: Limits) -> NdarraySize:
    """The size of the arrays of a request's inputs; those that will be refused do not count."""
    sizes = [tensors.ndarray_size(inputs[alias]) for alias, _, _ in signature.inputs if alias in inputs]
    taken = [size for size in sizes if size.nbytes <= limits.max_tensor_bytes]
    return NdarraySize(sum(size.nbytes for size in taken), sum(size.converted for size in taken))


def _check_strings(alias: str, proto: TensorProto, limits: Limits) -> None:
    """Raises ResourceExhausted for more strings than --max_request_elements: a short request can ask for any number."""
    count = math.prod(dim.size for dim in proto.tensor_shape.dim)
    if count * STRING_COST > limits.max_request_elements:
        raise ResourceExhausted(
            f"Input {alias} has {count} strings, which count as {STRING_COST} elements each: the limit is "
            f"--max_request_elements={limits.max_request_elements}"
        )


def planned(
    engine: Engine,
    version: Version[LoadedModel],
    signature: Signature,
    inputs: Mapping[str, TensorProto | Array],
    output_filter: Sequence[str],
    deadline: float | None,
    charge: Callable[[int], None] | None = None,
) -> Plan:
    """Reads a request. charge: called with the bytes of each array before it is made. Raises ServingError."""
    feeds = _feeds(signature, inputs, engine.limits, charge)
    aliases, fetches = signature.aliases, signature.fetches
    if output_filter:
        aliases = _filtered(signature, output_filter)
        fetches = tuple(signature.definition.outputs[alias].name for alias in aliases)
    return Plan(signature, aliases, Run(version, feeds, fetches, deadline))


def _check_predict_method(signature: SignatureDef) -> None:
    """Raises Internal when a signature's method is none of TF Serving's (only with its check enabled)."""
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if signature.method_name not in methods:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
            f"Was: {signature.method_name}"
        )


def _feeds(
    signature: Signature,
    inputs: Mapping[str, TensorProto | Array],
    limits: Limits,
    charge: Callable[[int], None] | None,
) -> dict[str, Array]:
    """The values to feed, by tensor name, sorted by alias. Raises InvalidArgument."""
    if len(inputs) != len(signature.inputs):
        _check_count(signature.definition, inputs)
    feeds: dict[str, Array] = {}
    count = 0
    for alias, tensor, data_type in signature.inputs:
        is_input = alias in inputs
        count += is_input
        value = inputs[alias] if is_input else _default(signature.definition, alias, inputs.keys())
        array = _array(alias, value, data_type, limits, len(feeds), charge)
        if limits.max_request_rows and array.ndim:
            check_rows(alias, len(array), limits)
        feeds[tensor] = array
    if count != len(inputs):
        aliases = [alias for alias, _, _ in signature.inputs if alias in inputs]
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {','.join(aliases)}, request input: {_names(inputs)}"
        )
    return feeds


def check_rows(name: str, rows: int, limits: Limits) -> None:
    """Raises InvalidArgument for an input of more rows than --max_request_rows."""
    if 0 < limits.max_request_rows < rows:
        raise InvalidArgument(
            f"Input {name} has {rows} rows: the limit is --max_request_rows={limits.max_request_rows}"
        )


def _check_count(signature: SignatureDef, inputs: Mapping[str, object]) -> None:
    required = signature.inputs.keys()
    if len(inputs) < len(required) and signature.defaults:
        return
    raise InvalidArgument(
        f"input size does not match signature: {len(inputs)}!={len(required)} "
        f"len({_set(inputs)}) != len({_set(required)}). "
        f"Sent extra: {_set(inputs.keys() - required)}. Missing but required: {_set(required - inputs.keys())}."
    )


def _default(signature: SignatureDef, alias: str, inputs: Collection[str]) -> TensorProto:
    if alias in signature.defaults:
        return signature.defaults[alias]
    raise InvalidArgument(
        f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no "
        f"default value provided. Inputs expected to be in the request {_set(inputs)}, "
        f"or default input alias set: {','.join(sorted(signature.defaults))}"
    )


def _array(
    alias: str,
    value: TensorProto | Array,
    data_type: int,
    limits: Limits,
    position: int,
    charge: Callable[[int], None] | None,
) -> Array:
    max_bytes = limits.max_tensor_bytes
    if isinstance(value, np.ndarray):
        if value.nbytes > max_bytes:
            raise InvalidArgument(
                f"Input {alias} has {value.nbytes} bytes: the limit is --max_tensor_bytes={max_bytes}"
            )
        return value
    try:
        if value.dtype == DT_STRING:
            _check_strings(alias, value, limits)
        array = tensors.make_ndarray(value, max_bytes=max_bytes, charge=charge)
    except tensors.TensorError as error:
        raise InvalidArgument(f"tensor parsing error: {alias}") from error
    if value.dtype != data_type:
        raise InvalidArgument(
            f"Expects arg[{position}] to be {type_name(data_type)} but {type_name(value.dtype)} is provided"
        )
    return array


def type_name(data_type: int) -> str:
    """TensorFlow's short name of a DataType: 1 -> `float`, 4 -> `uint8`."""
    return tensors.data_type_name(data_type).removeprefix("DT_").lower()


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as TF Serving's texts have it: `[2,3]`."""
    return f"[{','.join(map(str, shape))}]"


def _filtered(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.output_types:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {quoted(alias)} "
                f"Outputs expected to be in the set {_set(signature.aliases)}."
            )
        if alias in aliases:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return tuple(aliases)


def _set(names: Collection[str]) -> str:
    return f"{{{_names(names)}}}"


def _names(names: Collection[str]) -> str:
    """Names in order, with commas between them; of too many the first that come."""
    few = sorted(itertools.islice(names, _MAX_NAMES))
    return ",".join(map(quoted, few)) + (f",... ({len(names)} in all)" if len(names) > _MAX_NAMES else "")
