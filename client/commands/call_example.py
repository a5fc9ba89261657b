"""What a model wants, and for each signature a command line that asks it."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from client.inputs import declared, numpy_dtype
from client.types import Metadata, Signature, TensorInfo
from serving.apis.signatures import BYTES_SUFFIX, DEFAULT_SIGNATURE

# Longer inputs come from a file.
_MOST_VALUES = 16


def description(metadata: Metadata, options: Sequence[str]) -> Iterator[str]:
    """Lines: the inputs and outputs of each signature, and a command line. options: of the connection, to repeat."""
    yield f"{metadata.model_name}, version {metadata.version}"
    for name, signature in sorted(metadata.signatures.items(), key=lambda item: item[0] != DEFAULT_SIGNATURE):
        yield f"\n{name}"
        if signature.method != "predict":
            yield "  takes tf.Examples: features of text, int64, or floats such as 1.0; the metadata do not name them"
            yield f"  {_command(name, options)} --input FEATURE=VALUE"
            continue
        for verb, infos in (("takes", signature.inputs), ("gives", signature.outputs)):
            yield from (f"  {verb} {key}  {declared(info)}" for key, info in infos.items())
        yield f"  {command(name, signature, options)}"


def command(name: str, signature: Signature, options: Sequence[str]) -> str:
    """A command line of a shell that runs the signature on zeros, one row of them; long inputs by way of files.

    FILE stands for one of the user's, where an input's name says that it takes the bytes of files.
    """
    files, arguments = [], []
    for key, info in signature.inputs.items():
        shape = tuple(1 if size < 0 else size for size in (info.shape if info.shape is not None else (-1,)))
        if info.dtype == "DT_STRING":
            value = "@FILE" if key.endswith(BYTES_SUFFIX) else json.dumps(_nested("text", shape))
        elif math.prod(shape) <= _MOST_VALUES and not info.dtype.startswith("DT_COMPLEX"):
            value = json.dumps(_nested(False if info.dtype == "DT_BOOL" else 0, shape))
        else:
            file = re.sub(r"\W", "_", key) + ".npy"
            files.append(f"np.save({file!r}, np.zeros({shape}, {_saved_dtype(key, info)!r}))")
            value = f"@{file}"
        arguments.append(f" --input {shlex.quote(f'{key}={value}')}")
    preparation = f'python -c "import numpy as np; {"; ".join(files)}" && ' if files else ""
    return preparation + _command(name, options) + "".join(arguments)


def _command(name: str, options: Sequence[str]) -> str:
    signature = [] if name == DEFAULT_SIGNATURE else ["--signature", name]
    return shlex.join(["fashion", "call", *options, *signature])


def _saved_dtype(key: str, info: TensorInfo) -> str:
    dtype = numpy_dtype(key, info)
    # A file of numpy's does not keep the dtypes of ml_dtypes.
    return "float32" if dtype.kind == "V" else dtype.name


def _nested(value: Any, shape: tuple[int, ...]) -> Any:
    return [_nested(value, shape[1:]) for _ in range(shape[0])] if shape else value
