"""The requests of `fashion call`: `--input NAME=VALUE`, files, bodies of TF Serving's REST API, JSON lines."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from client.calls import signature_of
from client.errors import ClientUsageError
from client.input_files import ARRAY_SUFFIXES, content

if TYPE_CHECKING:
    from client.connection import Connection
    from client.types import Metadata, Signature, TensorInfo

Method: TypeAlias = Literal["predict", "classify", "regress"]
# The keys of a body; https://www.tensorflow.org/tfx/serving/api_rest.
_BODY_KEYS = frozenset(("signature_name", "instances", "inputs", "examples", "context"))
# So begins JSON that may stand for strings; any other text is itself.
_JSON_STRINGS = re.compile(r'[\["{]')
_QUOTED = 100


class Question(NamedTuple):
    """What the options say of every request: the signature, how it is run, and the outputs that are wanted."""

    signature_name: str | None
    method: Method | None
    output_filter: Sequence[str]

    def ask(self, connection: Connection, document: Any) -> Any:
        """The answer to a request: arrays by name, or the results of Classify or Regress.

        document: inputs by name, the value of the only input, or a body. Raises ClientUsageError and ServerError.
        """
        metadata = connection.metadata()
        name, method = self._signature(metadata, document)
        if method == "predict":
            inputs = _inputs(document, signature_of(metadata, name)[1])
            return connection.infer(inputs, signature_name=name, output_filter=self.output_filter)
        if self.output_filter:
            raise ClientUsageError(f"--output-filter is for predict: {method} has one result")
        examples, context = _examples(document)
        run = connection.classify if method == "classify" else connection.regress
        return run(examples, context=context, signature_name=name)

    def options_document(self, texts: Sequence[str], metadata: Metadata) -> dict[str, Any]:
        """The request that `--input NAME=VALUE` make, or one example of the features in them."""
        name, method = self._signature(metadata, None)
        infos = signature_of(metadata, name)[1].inputs if method == "predict" else {}
        document: dict[str, Any] = {}
        for text in texts:
            key, sign, value = text.partition("=")
            if not sign or not key:
                raise ClientUsageError(f"--input {text}: expected NAME=VALUE, such as 'x=[1, 2]' or x=@rows.npy")
            if key in document:
                raise ClientUsageError(f"--input {key} is given twice: several values are one list")
            document[key] = _option_value(key, value, infos.get(key))
        return document if method == "predict" else {"examples": [document]}

    def _signature(self, metadata: Metadata, document: Any) -> tuple[str | None, Method]:
        """The name, None for the default, and the method: that of the metadata unless it was said."""
        name = self.signature_name
        if name is None and isinstance(document, dict) and isinstance(document.get("signature_name"), str):
            name = document["signature_name"]
        if self.method is not None:
            return name, self.method
        _, signature = signature_of(metadata, name)
        return name, signature.method


def file_documents(lines: Iterable[bytes], name: str) -> tuple[bool, Iterator[bytes]]:
    """Whether it is JSON lines, and the requests as JSON: its lines, or all of it.

    name: of the file, for errors. Raises ClientUsageError where nothing is in it.
    """
    filled = (line for line in lines if line.strip())
    first, second = next(filled, b""), next(filled, b"")
    if not first:
        raise ClientUsageError(f"{name} is empty: expected a request as JSON, or one a line")
    if second and _is_json(first):
        return True, itertools.chain((first, second), filled)
    return False, iter([b"".join((first, second, *filled))])


def parsed(text: bytes, name: str) -> Any:
    """A request's JSON. Raises ClientUsageError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClientUsageError(f"{name} is not JSON: {error}") from error


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _option_value(name: str, text: str, info: TensorInfo | None) -> Any:
    """info: of the input; None for a feature, whose text need not be JSON."""
    if text.startswith("@"):
        return _file_value(name, Path(text[1:]), info)
    if info is not None and info.dtype == "DT_STRING" and not _JSON_STRINGS.match(text):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if info is None:
            return text
        raise ClientUsageError(f"--input {name}={text[:_QUOTED]}: neither JSON nor @FILE: {error}") from error


def _file_value(name: str, path: Path, info: TensorInfo | None) -> Any:
    """An array, JSON, or of any other file its bytes: one string, in a list where the input has rows."""
    if path.suffix in ARRAY_SUFFIXES or path.suffix == ".json":
        value = content(path)
        if path.suffix != ".npz":
            return value
        if name not in value:
            raise ClientUsageError(f"{path} has no array {name!r}: it has {', '.join(value) or 'none'}")
        return value[name]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClientUsageError(f"--input {name}=@{path} cannot be read: {error.strerror}") from error
    has_rows = info is not None and info.shape is not None and len(info.shape) == 1
    return [data] if has_rows else data


def _inputs(document: Any, signature: Signature) -> dict[str, Any]:
    """The inputs by name, of a body in either format, of an object by names, or of the only input's value."""
    names = list(signature.inputs)
    is_body = isinstance(document, dict) and document.keys() <= _BODY_KEYS and document.keys() != set(names)
    if is_body and "instances" in document:
        document = _columns(document["instances"], names)
    elif is_body and "inputs" in document:
        document = document["inputs"]
    if not isinstance(document, dict) or _is_base64(document):
        if len(names) != 1:
            raise ClientUsageError(
                f"the signature's inputs are {', '.join(names) or 'none'}: give an object by their names"
            )
        document = {names[0]: document}
    return {name: _value(name, value, signature.inputs.get(name)) for name, value in document.items()}


def _columns(rows: Any, names: Sequence[str]) -> Any:
    """`instances` as columns: rows are objects by the inputs' names, or values of the only one."""
    if not isinstance(rows, list):
        raise ClientUsageError("`instances` are a list of rows")
    if not all(isinstance(row, dict) and not _is_base64(row) for row in rows):
        return rows
    for index, row in enumerate(rows):
        if row.keys() != set(names):
            raise ClientUsageError(f"`instances`, row {index}: its names are {', '.join(row)}, not {', '.join(names)}")
    return {name: [row[name] for row in rows] for name in names}


def _value(name: str, value: Any, info: TensorInfo | None) -> Any:
    if info is not None and info.dtype == "DT_STRING":
        return _with_bytes(name, value)
    is_other = info is not None and getattr(value, "dtype", None) is not None and value.dtype.kind in "fiu"
    if info is None or not is_other or _has_dtype(name, value, info) or len(info.shape or value.shape) != value.ndim:
        return value
    # Numbers in a file take the dtype as those in JSON do, which are lists.
    return list(value) if value.ndim else value.item()


def _has_dtype(name: str, array: Any, info: TensorInfo | None) -> bool:
    from client.inputs import numpy_dtype

    return info is not None and array.dtype == numpy_dtype(name, info)


def _examples(document: Any) -> tuple[list[Any], Any]:
    """The examples and the context, of a body, of a list of examples, or of one."""
    context = None
    if isinstance(document, dict):
        is_body = document.keys() <= _BODY_KEYS and "examples" in document
        context = document.get("context") if is_body else None
        document = document["examples"] if is_body else [document]
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise ClientUsageError('examples are a list of objects: [{"x": 1.0}, {"x": 2.0}]')
    return [_features(each) for each in document], None if context is None else _features(context)


def _features(example: Any) -> Any:
    if not isinstance(example, Mapping):
        return example
    return {name: _with_bytes(name, value) for name, value in example.items()}


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _with_bytes(name: str, value: Any) -> Any:
    """Every `{"b64": "..."}` as its bytes."""
    if isinstance(value, list):
        return [_with_bytes(name, item) for item in value]
    if not _is_base64(value):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClientUsageError(f"`{name}` is no base64: {value['b64'][:_QUOTED]!r}: {error}") from error
