"""Any model's way through the page: a form made from its signatures, and what it answers."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from client.errors import ClientUsageError
from client.inputs import declared
from client.sample_inputs import noise
from client.types import Metadata, Signature, TensorInfo
from client.web.snippets import AskedInputs, Reach, input_snippets
from serving.apis.tensors import Array

if TYPE_CHECKING:
    from client.web.served import Answering, Look, Served

# A sample with more values does not go into a form, nor an answer onto the page.
_MOST_VALUES = 1000
_SAMPLE_DIGITS = 2
_EXAMPLES = "examples"
# Answers of two versions that are closer are the same, in float32.
_TOLERANCE = 1e-4


def form(metadata: Metadata) -> list[dict[str, Any]]:
    """Each signature: `name`, `method`, and `inputs` with `name`, what each `takes`, and a `sample` as JSON.

    sample: "" where nobody knows one, or it is too large for a form.
    """
    return [
        {"name": name, "method": signature.method, "inputs": _fields(signature)}
        for name, signature in metadata.signatures.items()
    ]


async def infer(served: Served, look: Look, question: Any, reach: Reach) -> dict[str, Any]:
    """The answers of all that answer, in JSON. Raises ServerError, ClientUsageError.

    question: `signature_name`, and `inputs` by name; one that is null, or missing, has the sample's place taken.
    """
    try:
        signature_name, inputs = str(question["signature_name"]), dict(question["inputs"])
    except (TypeError, KeyError, ValueError) as error:
        raise ClientUsageError('expected {"signature_name": NAME, "inputs": {NAME: VALUES}}') from error
    inputs = {key: _with_bytes(value) for key, value in inputs.items() if value is not None}
    answers = await asyncio.gather(*(_answer(served, each, signature_name, inputs) for each in look.answering))
    first, *others = answers
    for other in others:
        values = other["values"].items()
        other["differences"] = [name for name, value in values if _differ(first["values"].get(name), value)]
    version = served.version(first["version"])
    metadata = await version.metadata()
    method = metadata.signatures[signature_name].method
    asked = AskedInputs(version.model, signature_name, method, first["inputs"])
    for answer in answers:
        outputs = answer.pop("values").items()
        answer["outputs"] = [{"name": key, "is": _kind(value), "text": _text(value)} for key, value in outputs]
        answer.pop("inputs")
    return {
        "answers": answers,
        "differs": any(other["differences"] for other in others),
        "snippets": input_snippets(asked, metadata, reach),
    }


async def _answer(served: Served, answering: Answering, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    connection = served.version(answering.version)
    signature = (await connection.metadata()).signatures.get(name)
    method = signature.method if signature else "predict"
    if signature is not None and method == "predict":
        missing = Signature({key: info for key, info in signature.inputs.items() if key not in inputs}, {}, "")
        inputs = {**{key: _list(array) for key, array in noise(missing, 1, {}).items()}, **inputs}
    begin = time.perf_counter()
    if method == "classify":
        classes = await connection.classify(_examples(inputs), signature_name=name)
        values: dict[str, Any] = {"classes": [[tuple(score) for score in scores] for scores in classes]}
    elif method == "regress":
        values = {"values": await connection.regress(_examples(inputs), signature_name=name)}
    else:
        values = dict(await connection.infer(inputs, signature_name=name))
    milliseconds = 1000 * (time.perf_counter() - begin)
    return {**answering._asdict(), "values": values, "inputs": inputs, "ms": round(milliseconds, 2)}


def _fields(signature: Signature) -> list[dict[str, str]]:
    if signature.method != "predict":
        takes = "a list of tf.Examples, each an object of features"
        return [{"name": _EXAMPLES, "takes": takes, "sample": '[{"x": 1.0}]'}]
    return [
        {"name": name, "takes": declared(info), "sample": _sample(name, info)}
        for name, info in signature.inputs.items()
    ]


def _sample(name: str, info: TensorInfo) -> str:
    try:
        [array] = noise(Signature({name: info}, {}, ""), 1, {}).values()
    except ClientUsageError:
        return ""
    # JSON has no complex numbers.
    if array.size > _MOST_VALUES or array.dtype.kind == "c":
        return ""
    if array.dtype.kind in "fV":
        array = np.round(array.astype(np.float64), _SAMPLE_DIGITS)
    return json.dumps(_json(array))


def _examples(inputs: Mapping[str, Any]) -> Any:
    examples = inputs.get(_EXAMPLES)
    if not isinstance(examples, list) or set(map(type, examples)) != {dict}:
        raise ClientUsageError('examples are a list of objects: [{"x": 1.0}]')
    return examples


def _with_bytes(value: Any) -> Any:
    """JSON as the REST API reads it: `{"b64": TEXT}` is bytes. Raises ClientUsageError."""
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"b64"}:
        return {key: _with_bytes(item) for key, item in value.items()}
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, ValueError) as error:
        raise ClientUsageError(f"b64: {error}") from error


def _differ(first: Any, other: Any) -> bool:
    """Whether two outputs are not the same, but for rounding."""
    before, after = np.asarray(first), np.asarray(other)
    if before.shape != after.shape or before.dtype.kind not in "fc" or after.dtype.kind not in "fc":
        return bool(json.dumps(_json(before)) != json.dumps(_json(after)))
    return not np.allclose(before, after, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)


def _kind(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return ""
    return f"{'string' if value.dtype.kind == 'O' else value.dtype.name} {list(value.shape)}"


def _text(value: Any) -> str:
    """An output as JSON; of a large one the first values."""
    if isinstance(value, np.ndarray) and value.size > _MOST_VALUES:
        return f"{json.dumps(_json(value.ravel()[:_MOST_VALUES]))}\n... the first {_MOST_VALUES} of {value.size} values"
    return json.dumps(_json(value))


def _list(array: Array) -> Any:
    """Python's own values."""
    return array.tolist() if array.dtype.kind in "Oc" else _json(array)


def _json(value: Any) -> Any:
    """What JSON carries: floats as short as they are exact, bytes as text, what it has no number for as text too."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fV":
            value = np.array([float(str(item)) for item in value.ravel()]).reshape(value.shape)
        return _json(value.tolist())
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value
