"""What a model file says of its tensors, signatures and operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from serving.apis.messages import DT_FLOAT, DT_INT32, DT_STRING, SignatureDef
from serving.embedded.loading.litert.flatbuffer import ModelFile, Tensor
from serving.embedded.loading.litert.lite_model import LiteModel
from serving.embedded.loading.litert.signatures import _by_name
from serving.errors import InvalidArgument
from tests.support.lite_files import packed, with_metadata


def content_of(toys: Path, name: str, version: int = 1) -> bytes:
    """A toy model's file."""
    return (toys / name / str(version) / "model.tflite").read_bytes()


def changed(toys: Path, name: str) -> Any:
    """A toy model, to be changed."""
    return schema.ModelT.InitFromPackedBuf(content_of(toys, name))


def test_the_inputs_and_outputs_of_every_subgraph(lite_toys: Path) -> None:
    """With their numbers there, their types, and -1 for a size that is free."""
    file = ModelFile(content_of(lite_toys, "two"))
    double, triple = file.subgraphs()
    assert [tensor.subgraph for graph in (double, triple) for tensor in (*graph.inputs, *graph.outputs)] == [0, 0, 1, 1]
    assert [(tensor.name, tensor.data_type, tensor.shape) for tensor in (*triple.inputs, *triple.outputs)] == [
        ("x", DT_FLOAT, (-1,)),
        ("y", DT_FLOAT, (-1,)),
    ]
    own = file.own_signatures()
    assert sorted(own) == ["double", "triple"]
    assert own["triple"] == ({"x": triple.inputs[0]}, {"y": triple.outputs[0]})
    assert file.metadata_signatures() == {}
    (loop,) = ModelFile(content_of(lite_toys, "loop")).subgraphs()[:1]
    assert {tensor.shape: tensor.data_type for tensor in loop.inputs} == {(-1,): DT_FLOAT, (): DT_INT32}
    (fixed,) = ModelFile(content_of(lite_toys, "fixed")).subgraphs()
    assert fixed.inputs[0].shape == (1,)
    words = ModelFile(content_of(lite_toys, "strings")).own_signatures()["serving_default"].inputs["words"]
    assert words.data_type == DT_STRING


def test_the_signatures_of_the_metadata_are_found_among_others(lite_toys: Path) -> None:
    """By their name; a model has other metadata too."""
    model = changed(lite_toys, "half_plus_two")
    other = schema.MetadataT()
    other.name, other.buffer = "something else", 0
    model.metadata = [other, *(model.metadata or ())]
    definition = SignatureDef(method_name="mine")
    file = ModelFile(with_metadata(model, {"s": definition.SerializeToString(), "t": b""}))
    assert file.metadata_signatures() == {"s": definition, "t": SignatureDef()}


@pytest.mark.parametrize(("name", "loops"), [("loop", True), ("half_plus_two", False), ("row_mixer", False)])
def test_which_models_have_loops(lite_toys: Path, name: str, loops: bool) -> None:
    """Their time is not bounded by the size of their inputs."""
    assert ModelFile(content_of(lite_toys, name)).has_loops() is loops


def test_a_type_that_no_message_carries_is_named(lite_toys: Path) -> None:
    """With its tensor."""
    model = changed(lite_toys, "half_plus_two")
    number = model.subgraphs[0].inputs[0]
    model.subgraphs[0].tensors[number].type = schema.TensorType.INT4
    name = model.subgraphs[0].tensors[number].name.decode()
    with pytest.raises(ValueError, match="which no message can carry") as raised:
        ModelFile(packed(model)).subgraphs()
    assert str(raised.value) == f"tensor {name} is of the type {schema.TensorType.INT4}, which no message can carry"


def test_two_tensors_of_one_name_are_no_aliases() -> None:
    """One with `:0` and one without would be the same; one tensor twice is."""
    x, other = Tensor(0, 0, "x:0", DT_FLOAT, ()), Tensor(0, 1, "x", DT_FLOAT, ())
    assert _by_name([x, x]) == {"x": x}
    with pytest.raises(ValueError, match=r"^the tensor name x has multiple indices$"):
        _by_name([x, other])


@pytest.mark.parametrize("x", [2.0, [1.0, 2.0, 3.0], [[1.0], [2.0]], [], [[1.0]]])
def test_sizes_of_one_at_the_end_may_be_left_out(lite_toys: Path, x: Any) -> None:
    """Of a model whose converter wrote 1 for each size that it did not know; answers have the shape of what came."""
    model = LiteModel(content_of(lite_toys, "old", 123))
    definition = model.signatures["serving_default"]
    array = np.array(x, np.float32)
    (y,) = model.run({definition.inputs["x"].name: array}, [definition.outputs["y"].name])
    assert y.tolist() == (array / 2 + 2).tolist()
    assert y.shape == array.shape
    with pytest.raises(InvalidArgument, match=r" takes the shape \[1,1\], not \[1,2\]$"):
        model.run({definition.inputs["x"].name: np.ones((1, 2), np.float32)}, [definition.outputs["y"].name])


def test_what_there_is_not_is_quoted(lite_toys: Path) -> None:
    """In part where it is long; nothing is left to be run with an input of an earlier request."""
    model = LiteModel(content_of(lite_toys, "strings"))
    definition = model.signatures["serving_default"]
    y = definition.outputs["y"].name
    with pytest.raises(InvalidArgument) as raised:
        model.run({}, ["n" * 300])
    assert str(raised.value) == f"Tensor {'n' * 200}... is none of the model's signatures'"
    with pytest.raises(InvalidArgument) as raised:
        model.run({definition.inputs["words"].name: np.array([b"a"], object)}, [y])
    assert str(raised.value) == f"You must feed a value for the tensor {definition.inputs['x'].name}"
