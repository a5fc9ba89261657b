"""A trial of a model file in a process of its own: a damaged file that passes as a model can end the process.

`python -m serving.embedded.loading.litert.trial` reads the file from its standard input.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fashion_common.installation import module_command
from serving.apis import tensors
from serving.apis.messages import DT_STRING, SignatureDef, TensorInfo
from serving.apis.tensors import Array
from serving.errors import FailedPrecondition, InvalidArgument, ServingError

if TYPE_CHECKING:
    from serving.embedded.loading.litert.lite_model import LiteModel

# A model that takes longer is slow, not damaged.
_SECONDS = 30
_BATCHES = (1, 3, 200)
# A larger input, which only a changed size can ask for, is no matter of the trial.
_MAX_ELEMENTS = 2**22


def check_survival(path: Path, content: bytes) -> None:
    """Raises FailedPrecondition for a file that ends the process that loads and runs it. path: for the text.

    It finds most damage, not all of it; a manifest's digest does.
    """
    with suppress(subprocess.TimeoutExpired):
        command = module_command("serving.embedded.loading.litert.trial")
        trial = subprocess.run(command, input=content, capture_output=True, check=False, timeout=_SECONDS)
        if trial.returncode < 0:
            raise FailedPrecondition(
                f"{path} is damaged, it ended a process by signal {-trial.returncode}: copy the version again"
            )


def main(content: bytes) -> None:
    """Loads a model and runs every signature. What it cannot do is no matter here."""
    from serving.embedded.loading.litert.lite_model import LiteModel

    with suppress(ValueError, RuntimeError):
        model = LiteModel(content)
        for signature, rows in itertools.product(model.signatures.values(), _BATCHES):
            with suppress(ServingError):
                run(model, signature, rows)


def run(model: LiteModel, signature: SignatureDef, rows: int) -> None:
    """Runs a signature with ones, and words, in so many rows. Raises ServingError."""
    feeds = {info.name: _ones(info, rows) for info in signature.inputs.values()}
    model.run(feeds, [info.name for info in signature.outputs.values()])


def _ones(info: TensorInfo, rows: int) -> Array:
    sizes = [rows, *(max(1, dim.size) for dim in info.tensor_shape.dim[1:])] if info.tensor_shape.dim else []
    if math.prod(sizes) > _MAX_ELEMENTS:
        raise InvalidArgument("The input is too large for a trial")
    return np.full(sizes, b"word" if info.dtype == DT_STRING else 1, tensors.numpy_dtype(info.dtype))


if __name__ == "__main__":
    main(sys.stdin.buffer.read())
