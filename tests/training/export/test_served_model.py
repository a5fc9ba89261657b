"""An exported version is the served model that every part knows."""

from __future__ import annotations

from pathlib import Path

from fashion_common.layout import SAVED_MODEL_FILE
from fashion_common.served_model import CLASS_NAMES, SIGNATURES, SignatureInput
from serving.apis import messages
from tests.support.exports import manifest


def test_the_signatures_take_what_the_clients_expect(exported_version: Path) -> None:
    """Each signature's one input: name, dtype and shape."""
    saved_model = messages.SavedModel.FromString((exported_version / SAVED_MODEL_FILE).read_bytes())
    data_types = messages.POOL.FindEnumTypeByName("tensorflow.DataType").values_by_number
    inputs = {
        signature: SignatureInput(name, data_types[info.dtype].name, tuple(dim.size for dim in info.tensor_shape.dim))
        for signature, definition in saved_model.meta_graphs[0].signature_def.items()
        if not signature.startswith("__")
        for name, info in definition.inputs.items()
    }

    assert inputs == SIGNATURES


def test_the_classes_are_those_of_the_label_order(exported_version: Path) -> None:
    """The manifest names them too."""
    assert manifest(exported_version)["class_names"] == list(CLASS_NAMES)
