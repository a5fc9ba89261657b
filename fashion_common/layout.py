"""The layout of a model base path: which of its children are versions, and the names of a version's files.

Follows TF Serving: a version is a child directory whose name is a number, with leading zeros or without, and the newest
version is the greatest number. https://www.tensorflow.org/tfx/serving/serving_config
"""

from __future__ import annotations

import re
from pathlib import Path

from fashion_common.errors import BasePathError, MisplacedModelError, UnreadableBasePathError
from fashion_common.served_model import MODEL_NAME

MODEL_BASE_PATH = Path("models") / MODEL_NAME

# The files of a version, by their paths in its directory.
SAVED_MODEL_FILE = "saved_model.pb"
SAVED_MODEL_TEXT_FILE = "saved_model.pbtxt"
LITE_MODEL_FILE = "model.tflite"
# One of them makes a version.
MODEL_FILES = (SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE, LITE_MODEL_FILE)
BATCHING_FILE = "batching_params.pbtxt"
ASSETS_EXTRA = "assets.extra"
WARMUP_FILE = f"{ASSETS_EXTRA}/tf_serving_warmup_requests"
SELF_TEST_FILE = f"{ASSETS_EXTRA}/self_test.npz"
MANIFEST_FILE = f"{ASSETS_EXTRA}/manifest.json"
# The name that the tools of OpenSSF Model Signing take by default.
SIGNATURE_FILE = "model.sig"

# A server fails the load of a version with more warmup requests.
MAX_WARMUP_RECORDS = 1000

# ASCII digits only: str.isdecimal takes those of every script. 19 of them hold every int64, which versions are.
_NUMBER = re.compile(r"[0-9]{1,19}")
_MAX_VERSION = 2**63 - 1


def version_number(name: str) -> int | None:
    """The version that a directory's name stands for (`3`, `00000123`), or None when it is no version's name."""
    if not _NUMBER.fullmatch(name) or int(name) > _MAX_VERSION:
        return None
    return int(name)


def version_directories(base_path: Path) -> dict[int, Path]:
    """The directories of the versions under a base path, by number; none where there is no such directory.

    Raises OSError when the base path cannot be read.
    """
    if not base_path.is_dir():
        return {}
    return {
        number: child
        for child in sorted(base_path.iterdir())
        if (number := version_number(child.name)) is not None and child.is_dir()
    }


def check_base_path(model_name: str, base_path: Path) -> dict[int, Path]:
    """The directories of the versions under a base path, by number: at least one.

    Raises BasePathError, with the fix in its text, when there is none.
    """
    try:
        versions = version_directories(base_path)
    except OSError as error:
        raise UnreadableBasePathError(f"Cannot read base path {base_path}: {error.strerror or error}") from error
    if versions:
        return versions
    example = base_path / "1"
    if not base_path.exists():
        raise BasePathError(f"Could not find base path {base_path}: create it, or correct the path")
    if not base_path.is_dir():
        raise BasePathError(f"{base_path} is not a directory: a base path is a directory of numbered versions")
    misplaced = next((name for name in MODEL_FILES if (base_path / name).is_file()), None)
    if misplaced is not None:
        raise MisplacedModelError(
            f"{base_path} holds {misplaced} itself: a base path holds numbered versions. "
            f"Move the model to {example}, or give the parent when {base_path.name} is the version"
        )
    raise BasePathError(f"No versions of {model_name} under {base_path}: expected numeric folders such as {example}")
