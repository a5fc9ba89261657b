"""Arrays and a JSON value in one NumPy archive: written whole, checked when read, never pickled.

https://numpy.org/doc/stable/reference/generated/numpy.savez.html
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_common.files import write_whole

Arrays = dict[str, NDArray[Any]]

_ABOUT = "about"  # the member that holds the JSON text


def write_archive(path: Path, arrays: Mapping[str, NDArray[Any]], about: object) -> None:
    """Writes the arrays, of any shape and dtype but object, and `about`; a reader sees the whole file or none.

    Raises OSError.
    """
    members: dict[str, Any] = {**arrays, _ABOUT: np.array(json.dumps(about))}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **members)
    write_whole(path, buffer.getvalue())


def read_archive(path: Path) -> tuple[Arrays, Any]:
    """The arrays and the JSON value of an archive. Raises OSError, and ValueError where its checksums do not agree."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            arrays: Arrays = dict(members)
        return arrays, json.loads(str(arrays.pop(_ABOUT)))
    except (KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
