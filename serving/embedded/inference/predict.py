"""Predict: the one place where gRPC and REST meet.

Order of checks and texts are TF Serving's: the servable, the signature, the inputs' names, their contents, the output
filter, and then what TensorFlow says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.apis import tensors
from serving.apis.messages import ModelSpec, SignatureDef, TensorProto
from serving.apis.tensors import Array
from serving.embedded.inference.model import DEFAULT_SIGNATURE, LoadedModel, Signature
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.embedded.models.versions import Version
from serving.errors import FailedPrecondition, Internal, InvalidArgument

_PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


class Engine(NamedTuple):
    """What requests need of the server.

    use: the version that a request asks for, counted as in use. run: runs it. Both raise ServingError.
    check_method_names: whether a signature must have a method name that TF Serving knows.
    """

    use: Callable[[ModelSpec], Version[LoadedModel]]
    run: Callable[[Run], Awaitable[list[Array]]]
    limits: Limits
    check_method_names: bool = False


async def predict(
    engine: Engine,
    version: Version[LoadedModel],
    signature_name: str,
    inputs: Mapping[str, TensorProto | Array],
    output_filter: Sequence[str] = (),
    deadline: float | None = None,
) -> tuple[Signature, dict[str, Array]]:
    """Runs a version that its caller has in use; gives the signature that did it, and the outputs by name.

    inputs: by the signature's names, arrays or messages. deadline: in seconds of `time.monotonic`. Raises ServingError.
    """
    name = signature_name or DEFAULT_SIGNATURE
    signature = version.servable.signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    if engine.check_method_names:
        _check_predict_method(signature.definition)
    feeds = _feeds(signature, inputs, engine.limits)
    aliases, fetches = signature.aliases, signature.fetches
    if output_filter:
        aliases = _filtered(signature, output_filter)
        fetches = tuple(signature.definition.outputs[alias].name for alias in aliases)
    values = await engine.run(Run(version, feeds, fetches, deadline))
    return signature, dict(zip(aliases, values, strict=True))


def _check_predict_method(signature: SignatureDef) -> None:
    """Raises Internal when a signature's method is none of TF Serving's (only with its check enabled)."""
    methods = (_PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if signature.method_name not in methods:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
            f"Was: {signature.method_name}"
        )


def _feeds(signature: Signature, inputs: Mapping[str, TensorProto | Array], limits: Limits) -> dict[str, Array]:
    """The values to feed, by tensor name, sorted by alias. Raises InvalidArgument."""
    _check_count(signature.definition, inputs)
    feeds: dict[str, Array] = {}
    count = 0
    for alias, tensor, data_type in signature.inputs:
        is_input = alias in inputs
        count += is_input
        value = inputs[alias] if is_input else _default(signature.definition, alias, inputs.keys())
        array = _array(alias, value, data_type, limits.max_tensor_bytes, len(feeds))
        if limits.max_request_rows and array.ndim:
            check_rows(alias, len(array), limits)
        feeds[tensor] = array
    if count != len(inputs):
        aliases = [alias for alias, _, _ in signature.inputs if alias in inputs]
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {','.join(aliases)}, "
            f"request input: {','.join(sorted(inputs))}"
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
    if len(inputs) == len(required) or (len(inputs) < len(required) and signature.defaults):
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


def _array(alias: str, value: TensorProto | Array, data_type: int, max_bytes: int, position: int) -> Array:
    if isinstance(value, np.ndarray):
        if value.nbytes > max_bytes:
            raise InvalidArgument(
                f"Input {alias} has {value.nbytes} bytes: the limit is --max_tensor_bytes={max_bytes}"
            )
        return value
    try:
        array = tensors.make_ndarray(value, max_bytes=max_bytes)
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
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_set(signature.aliases)}."
            )
        if alias in aliases:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return tuple(aliases)


def _set(names: Collection[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
