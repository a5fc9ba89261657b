"""Classify, Regress and MultiInference: tf.Examples in, classes or values out.

The signature's method name is not checked unless the server is told to, as in TF Serving; its inputs and outputs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format

from serving.apis import messages, tensors
from serving.apis.messages import DT_FLOAT, DT_STRING
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.apis.tensors import Array
from serving.embedded.inference.exchange import Exchange, answer_examples, ask_examples
from serving.embedded.inference.model import Signature
from serving.embedded.inference.predict import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    Account,
    Engine,
    check_rows,
    shape_text,
    with_span,
)
from serving.embedded.inference.runner import Run
from serving.embedded.limits import Limits
from serving.errors import FailedPrecondition, InvalidArgument, Unimplemented, quoted

# What an example takes beside its bytes, and an entry of an answer as a message.
_EXAMPLE_BYTES = 64
_VALUE_BYTES = 64
_KINDS = {CLASSIFY_METHOD: "classification", REGRESS_METHOD: "regression"}


class _Task(NamedTuple):
    """What one signature needs: the tensor to feed with examples, and the tensors to fetch, by output name.

    spec: of its answer.
    """

    spec: messages.ModelSpec
    feed: str
    fetches: dict[str, str]


async def classify(
    engine: Engine,
    request: messages.ClassificationRequest,
    deadline: float | None = None,
    account: Account | None = None,
) -> messages.ClassificationResponse:
    """Runs one Classify call. deadline: in seconds of `time.monotonic`. account: pays. Raises ServingError."""
    running = _run(engine, request, CLASSIFY_METHOD, deadline, account)
    # `_run` lets go of it once it is read.
    del request
    spec, outputs, count, exchange = await running
    response = messages.ClassificationResponse(model_spec=spec)
    size = _answer_bytes(outputs, account)
    await engine.offload(size, lambda: _fill_classes(response.result, outputs, count))
    if exchange is not None:
        answer_examples(exchange, spec, size, response)
    return response


async def regress(
    engine: Engine,
    request: messages.RegressionRequest,
    deadline: float | None = None,
    account: Account | None = None,
) -> messages.RegressionResponse:
    """Runs one Regress call. deadline: in seconds of `time.monotonic`. account: pays. Raises ServingError."""
    running = _run(engine, request, REGRESS_METHOD, deadline, account)
    del request
    spec, outputs, count, exchange = await running
    response = messages.RegressionResponse(model_spec=spec)
    size = _answer_bytes(outputs, account)
    await engine.offload(size, lambda: _fill_values(response.result, outputs["outputs"], count))
    if exchange is not None:
        answer_examples(exchange, spec, size, response)
    return response


async def multi_inference(
    engine: Engine,
    request: messages.MultiInferenceRequest,
    deadline: float | None = None,
    account: Account | None = None,
) -> messages.MultiInferenceResponse:
    """Runs several signatures of one model on the same examples, in one run. Raises ServingError."""
    response = messages.MultiInferenceResponse()
    with engine.use(request.tasks[0].model_spec if request.tasks else messages.ModelSpec()) as version:
        tasks = _tasks(engine, version.servable.signatures, request)
        kinds = [inference.method_name for inference in request.tasks]
        exchange = None if account is None else account.sample(version.name)
        asked = messages.MultiInferenceRequest(tasks=request.tasks) if exchange is not None else None
        examples = await _read_examples(engine, request.input, account)
        del request
        if exchange is not None and asked is not None:
            ask_examples(exchange, asked, examples)
        count = len(examples)
        feeds = dict.fromkeys([task.feed for task in tasks], examples)
        del examples
        fetches = tuple(sorted({tensor for task in tasks for tensor in task.fetches.values()}))
        run = with_span(Run(version, feeds, fetches, deadline), account)
        values = dict(zip(fetches, await engine.run(run), strict=True))

    def fill() -> None:
        for task, kind in zip(tasks, kinds, strict=True):
            result = response.results.add(model_spec=task.spec)
            outputs = {output: values[tensor] for output, tensor in task.fetches.items()}
            if kind == CLASSIFY_METHOD:
                _fill_classes(result.classification_result, outputs, count)
            else:
                _fill_values(result.regression_result, outputs["outputs"], count)

    size = _answer_bytes(values, account)
    await engine.offload(size, fill)
    if exchange is not None:
        answer_examples(exchange, tasks[0].spec, size, response)
    return response


async def _run(
    engine: Engine,
    request: messages.ClassificationRequest | messages.RegressionRequest,
    method_name: str,
    deadline: float | None,
    account: Account | None,
) -> tuple[messages.ModelSpec, dict[str, Array], int, Exchange | None]:
    """The ModelSpec of the answer, the outputs by name, the number of examples, and what the call is recorded with."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    with engine.use(request.model_spec) as version:
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in version.servable.signatures:
            raise InvalidArgument(f"No signature was found with the name: {quoted(name)}")
        task = _task(engine, version.servable.signatures[name], method_name)
        exchange = None if account is None else account.sample(version.name)
        asked = type(request)(model_spec=request.model_spec) if exchange is not None else None
        examples = await _read_examples(engine, request.input, account)
        del request
        if exchange is not None and asked is not None:
            ask_examples(exchange, asked, examples)
        count = len(examples)
        run = Run(version, {task.feed: examples}, tuple(task.fetches.values()), deadline)
        del examples
        values = await engine.run(with_span(run, account))
    return task.spec, dict(zip(task.fetches, values, strict=True)), count, exchange


async def _read_examples(engine: Engine, source: messages.Input, account: Account | None) -> Array:
    """The examples, for which the account pays instead of for the request."""
    size = _examples_bytes(source)
    if account is None:
        return _serialized_examples(source, engine.limits)
    request_size = account.size
    account.charge(size)
    examples: Array = await engine.offload(size, partial(_serialized_examples, source, engine.limits))
    account.refund(request_size)
    return examples


def _examples_bytes(source: messages.Input) -> int:
    """What the serialized examples will take; a context is in each of them."""
    size = source.ByteSize()
    if source.WhichOneof("kind") == "example_list_with_context":
        examples = source.example_list_with_context
        return size + (examples.context.ByteSize() + _EXAMPLE_BYTES) * len(examples.examples)
    return size + _EXAMPLE_BYTES * len(source.example_list.examples)


def _answer_bytes(outputs: Mapping[str, Array], account: Account | None) -> int:
    """The bytes of an answer's messages, for which the account pays from here on, and for no request."""
    size = sum(_VALUE_BYTES * array.size + tensors.array_bytes(array) for array in outputs.values())
    if account is not None:
        account.refund(account.size)
        account.charge(size)
    return size


def _tasks(engine: Engine, signatures: Mapping[str, Signature], request: messages.MultiInferenceRequest) -> list[_Task]:
    tasks: dict[str, _Task] = {}
    for inference in request.tasks:
        spec = inference.model_spec
        if not spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in tasks:
            raise InvalidArgument(f"Duplicate evaluation of signature: {quoted(name)}")
        if name not in signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {quoted(name)}")
        tasks[name] = _task(engine, signatures[name], inference.method_name)
    return list(tasks.values())


def _task(engine: Engine, signature: Signature, method_name: str) -> _Task:
    if method_name not in _KINDS:
        raise Unimplemented(f"Unsupported signature method_name: {quoted(method_name)}")
    kind, definition = _KINDS[method_name], signature.definition
    if engine.check_method_names and definition.method_name != method_name:
        raise InvalidArgument(
            f"Expected {kind} signature method_name to be {method_name}. Was: {definition.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    fetches = _classification(definition) if method_name == CLASSIFY_METHOD else _regression(definition)
    ((_, feed, _),) = signature.inputs
    return _Task(signature.spec, feed, fetches)


def _serialized_examples(source: messages.Input, limits: Limits) -> Array:
    """The examples as strings [N] of serialized tf.Example; a context goes in front of each. Raises InvalidArgument.

    Serialized messages merge when they are joined: that is how a context's features get into every example.
    """
    if source.WhichOneof("kind") == "example_list_with_context":
        context = source.example_list_with_context.context.SerializeToString()
        serialized = [context + example.SerializeToString() for example in source.example_list_with_context.examples]
    else:
        serialized = [example.SerializeToString() for example in source.example_list.examples]
    if not serialized:
        raise InvalidArgument("Input is empty.")
    check_rows("inputs", len(serialized), limits)
    examples = np.empty(len(serialized), object)
    examples[:] = serialized
    return examples


def _classification(signature: messages.SignatureDef) -> dict[str, str]:
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise FailedPrecondition(f"No classification inputs found in SignatureDef: {_debug(signature)}")
    fetches = {name: signature.outputs[name].name for name in ("classes", "scores") if name in signature.outputs}
    if not fetches:
        raise FailedPrecondition(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_debug(signature)}"
        )
    return fetches


def _regression(signature: messages.SignatureDef) -> dict[str, str]:
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise FailedPrecondition(f"No regression inputs found in SignatureDef: {_debug(signature)}")
    if "outputs" not in signature.outputs:
        raise FailedPrecondition(f"No regression outputs found in SignatureDef: {_debug(signature)}")
    return {"outputs": signature.outputs["outputs"].name}


def _debug(signature: messages.SignatureDef) -> str:
    # C++ protobuf marks its debug text so that nobody parses it; TF Serving's error texts carry the mark.
    return "goo.gle/debugstr    \n" + text_format.MessageToString(signature)


def _fill_classes(result: messages.ClassificationResult, outputs: Mapping[str, Array], count: int) -> None:
    """classes: strings [N,K]; scores: float32 [N,K]; one of the two may be missing."""
    widths = []
    for name, data_type in (("classes", DT_STRING), ("scores", DT_FLOAT)):
        if name in outputs:
            _check_classes(name, outputs[name], data_type, count)
            widths.append(outputs[name].shape[1])
    if widths[0] != widths[-1]:
        raise InvalidArgument(f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[-1]}")
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for row in range(count):
        classification = result.classifications.add()
        for column in range(widths[0]):
            entry = classification.classes.add()
            if classes is not None:
                entry.label = classes[row, column].decode(errors="replace")
            if scores is not None:
                entry.score = float(scores[row, column])


def _check_classes(name: str, values: Array, data_type: int, count: int) -> None:
    if values.ndim != 2:  # noqa: PLR2004 - a matrix
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(values.shape)}")
    if tensors.data_type(values.dtype) != data_type:
        expected, got = tensors.data_type_name(data_type), tensors.data_type_name(tensors.data_type(values.dtype))
        raise InvalidArgument(f"Expected {name} Tensor of {expected}. Got: {got}")
    if len(values) != count:
        raise InvalidArgument(f"Expected {name} output batch size of {count}. Got: {len(values)}")


def _fill_values(result: messages.RegressionResult, values: Array, count: int) -> None:
    """values: float32 [N] or [N,1]."""
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):  # noqa: PLR2004 - a vector or a column
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{shape_text(values.shape)}"
        )
    if len(values) != count:
        raise InvalidArgument(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        got = tensors.data_type_name(tensors.data_type(values.dtype))
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {got}")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
