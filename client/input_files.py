"""What a file of inputs holds: arrays by name (.npz), an array (.npy), or JSON's value."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from client.errors import ClientUsageError

ARRAY_SUFFIXES = frozenset((".npy", ".npz"))


def content(path: Path) -> Any:
    """By the name's ending: a dict of arrays, an array, or JSON. Raises ClientUsageError."""
    try:
        if path.suffix not in ARRAY_SUFFIXES:
            return json.loads(path.read_bytes())
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if path.suffix == ".npz" else loaded
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClientUsageError(f"{path} cannot be read: {reason}: give .npz, .npy or JSON") from error
