"""A SavedModel of other people's, served as it is: its files are copied, its signatures stay."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from fashion_common.layout import LITE_MODEL_FILE, MANIFEST_FILE, SELF_TEST_FILE
from fashion_common.served_model import IMAGE_SHAPE
from training.errors import TrainingUsageError
from training.export.golden_file import Specs, read_golden
from training.export.own_signatures import OwnSignatures
from training.export.signatures import describe_signatures

_GARMENTS_OUTPUTS = ("probabilities", "class_ids", "class_names")
# What a version of ours has beside the SavedModel is made anew; a warmup file of its own is kept.
_MADE = (LITE_MODEL_FILE, MANIFEST_FILE, SELF_TEST_FILE)


class SavedModelCopy(OwnSignatures):
    """A `Form`. golden: as in `read_golden`. Raises TrainingUsageError for what TensorFlow cannot load."""

    lite_required = False
    class_names = ()

    def __init__(self, directory: Path, golden: Path | None = None) -> None:
        self._directory = directory
        try:
            # Its variables live as long as it does.
            self._loaded = tf.saved_model.load(str(directory))
            described = describe_signatures(directory)
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TrainingUsageError(f"TensorFlow cannot load {directory}: {reason[0]}") from error
        functions = {name: function for name, function in self._loaded.signatures.items() if name in described}
        if not functions:
            raise TrainingUsageError(
                f"{directory} has no signature: save it with signatures={{'serving_default': ...}}"
            )
        inputs, outputs = (
            {name: _specs(described[name][side]) for name in functions} for side in ("inputs", "outputs")
        )
        self._outputs = outputs
        cases = read_golden(golden, inputs, outputs) if golden else {}
        super().__init__(functions, inputs, cases)

    def serves_garments(self) -> bool:
        """Whether clients can send it garments: its `serving_default` takes and gives what ours does."""
        images = {"images": tf.TensorSpec([None, *IMAGE_SHAPE], tf.uint8, "images")}
        outputs = self._outputs.get("serving_default", {})
        return self._inputs.get("serving_default") == images and set(outputs) == set(_GARMENTS_OUTPUTS)

    def write(self, path: Path) -> None:
        """Copies the files. Raises OSError."""
        shutil.copytree(self._directory, path, ignore=self._made_anew, dirs_exist_ok=True)
        path.chmod(0o755)

    def describe(self) -> dict[str, Any]:
        """Name, no layers, and the number of parameters."""
        values = self._directory / "variables" / "variables"
        shapes = dict(tf.train.list_variables(str(values))) if values.with_suffix(".index").is_file() else {}
        # What else is in the checkpoint is the graph of objects.
        parameters = sum(math.prod(shape) for name, shape in shapes.items() if not name.startswith("_CHECKPOINTABLE"))
        return {"name": self._directory.resolve().name, "layers": [], "parameters": parameters}

    def _made_anew(self, directory: str, names: list[str]) -> list[str]:
        # An asset may have the name of such a file.
        return [name for name in names if (Path(directory) / name).relative_to(self._directory).as_posix() in _MADE]


def _specs(tensors: Mapping[str, Any]) -> Specs:
    return {name: tf.TensorSpec(facts["shape"], facts["dtype"], name) for name, facts in tensors.items()}
