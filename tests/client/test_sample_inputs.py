"""Inputs to measure with fit their signature, and say what they lack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.errors import ClientUsageError
from client.inputs import call
from client.sample_inputs import batches, file_inputs, noise, row_count
from client.types import Metadata, Signature, TensorInfo

ZOO = Signature(
    {
        "b": TensorInfo("DT_BOOL", (-1, 2)),
        "f": TensorInfo("DT_FLOAT", (-1, 3)),
        "h": TensorInfo("DT_HALF", (-1,)),
        "i": TensorInfo("DT_INT64", (-1, 4, 5)),
        "s": TensorInfo("DT_STRING", (-1,)),
        "u": TensorInfo("DT_UINT8", (-1, 28)),
    },
    {},
    "",
)


def test_noise_is_what_the_signature_takes() -> None:
    """Every dtype, so many rows, the same each time, and not all one value."""
    inputs = noise(ZOO, 8, {})
    call(inputs, Metadata("m", 1, {"serving_default": ZOO}))
    assert {name: len(array) for name, array in inputs.items()} == dict.fromkeys(ZOO.inputs, 8)
    again = noise(ZOO, 8, {})
    assert all(np.array_equal(again[name], array) for name, array in inputs.items())
    assert all(len(set(inputs[name].ravel().tolist())) > 1 for name in "bfhiu")
    assert (inputs["i"].min(), inputs["i"].max(), set(inputs["s"])) == (0, 9, {b"sample"})


@pytest.mark.parametrize(
    ("shape", "given", "found"),
    [
        ((-1, 4), None, (2, 4)),
        ((3, 4), None, (3, 4)),
        ((), None, ()),
        ((-1, -1, -1, 3), (8, 224, 224, 3), (8, 224, 224, 3)),
        (None, (5,), (5,)),
        ((-1, 4), (7, 4), (7, 4)),
    ],
)
def test_shapes(shape: tuple[int, ...] | None, given: tuple[int, ...] | None, found: tuple[int, ...]) -> None:
    """The first free size is the batch's; a shape that was given counts."""
    signature = Signature({"x": TensorInfo("DT_FLOAT", shape)}, {}, "")
    assert noise(signature, 2, {"x": given} if given else {})["x"].shape == found


@pytest.mark.parametrize(
    ("shape", "shapes", "message"),
    [
        ((-1, -1, -1, 3), {}, "`x` takes float32 [N, N, N, 3]: give all its sizes, as --shape x=2,224,224,3"),
        (None, {}, "`x` takes float32 [...]: give its shape, as --shape x=8,28,28"),
        ((-1, 4), {"x": (2, 5)}, "`x` takes float32 [N, 4], not [2, 5] (--shape)"),
        ((-1, 4), {"x": (4,)}, "`x` takes float32 [N, 4], not [4] (--shape)"),
        ((-1, 4), {"x": (0, 4)}, "--shape x=0,4: sizes are above 0"),
        ((-1, 4), {"y": (1, 4)}, "--shape y: the signature's inputs are x"),
    ],
)
def test_shapes_that_cannot_be(shape: tuple[int, ...] | None, shapes: dict[str, tuple[int, ...]], message: str) -> None:
    """With an example that would do."""
    signature = Signature({"x": TensorInfo("DT_FLOAT", shape)}, {}, "")
    with pytest.raises(ClientUsageError) as raised:
        noise(signature, 2, shapes)
    assert str(raised.value) == message


def test_files(tmp_path: Path) -> None:
    """By name from .npz and JSON, of the only input from .npy; cut into batches, whose last may be smaller."""
    signature = Signature({"x": TensorInfo("DT_FLOAT", (-1, 2))}, {}, "")
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.save(tmp_path / "x.npy", rows)
    np.savez(tmp_path / "x.npz", x=rows)
    (tmp_path / "x.json").write_text(json.dumps({"x": rows.tolist()}))
    for name in ("x.npy", "x.npz", "x.json"):
        inputs = file_inputs(tmp_path / name, signature)
        assert inputs["x"].dtype == np.float32
        parts = batches(inputs, signature, 2)
        assert [row_count(part, signature) for part in parts] == [2, 2, 1]
        assert np.array_equal(np.concatenate([part["x"] for part in parts]), rows)
    scalar = Signature({"x": TensorInfo("DT_FLOAT", ())}, {}, "")
    assert batches({"x": np.array(1.0)}, scalar, 2) == [{"x": np.array(1.0)}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npy", None, "none.npy cannot be read: No such file or directory: give .npz, .npy or JSON"),
        ("x.json", b"{", "x.json cannot be read: "),
        ("y.json", b'{"y": [1]}', "y.json has y: the signature's inputs are x"),
        ("x.json", b'{"x": [[1, 2, 3]]}', "`x` takes float32 [N, 2], got a list [1, 3]"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """One line."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ClientUsageError) as raised:
        file_inputs(tmp_path / name, Signature({"x": TensorInfo("DT_FLOAT", (-1, 2))}, {}, ""))
    assert message in str(raised.value)


def test_noise_is_what_it_was() -> None:
    """Floats from 0 to 1, whole numbers from 0 to 9, both values of bool; the same numbers each time."""
    infos = {
        "f": TensorInfo("DT_FLOAT", (-1, 2)), "i": TensorInfo("DT_UINT8", (4,)), "b": TensorInfo("DT_BOOL", (-1,)),
        "s": TensorInfo("DT_STRING", (2, 1)),
    }  # fmt: skip
    inputs = noise(Signature(infos, {}, ""), 3, {"b": (6,)})
    generator = np.random.default_rng(0)
    floats, whole = generator.random((3, 2)), generator.integers(0, 10, 4)
    np.testing.assert_array_equal(inputs["f"], floats.astype(np.float32))
    np.testing.assert_array_equal(inputs["i"], whole.astype(np.uint8))
    np.testing.assert_array_equal(inputs["b"], generator.integers(0, 2, 6).astype(bool))
    assert {name: array.dtype.name for name, array in inputs.items()} == {
        "f": "float32", "i": "uint8", "b": "bool", "s": "object",
    }  # fmt: skip
    assert inputs["s"].tolist() == [[b"sample"], [b"sample"]]


_ROWS = TensorInfo("DT_FLOAT", (-1,))


@pytest.mark.parametrize(
    ("infos", "arrays", "rows", "sizes"),
    [
        ({"a": _ROWS, "b": TensorInfo("DT_FLOAT", None)}, {"a": np.zeros(4), "b": np.zeros((4, 2))}, 4, [3, 1]),
        ({"a": _ROWS, "b": _ROWS}, {"a": np.zeros(4), "b": np.zeros(3)}, 0, [4]),
        ({"a": _ROWS, "b": TensorInfo("DT_FLOAT", ())}, {"a": np.zeros(4), "b": np.zeros(())}, 0, [4]),
        ({"a": TensorInfo("DT_FLOAT", (4,))}, {"a": np.zeros(4)}, 0, [4]),
        ({"a": TensorInfo("DT_FLOAT", None)}, {"a": np.array(1)}, 0, [None]),
        ({"a": _ROWS}, {"a": np.zeros(3)}, 3, [3]),
        ({"a": _ROWS}, {"a": np.zeros(0)}, 0, [0]),
    ],
)
def test_rows_are_those_of_all_inputs(
    infos: dict[str, TensorInfo], arrays: dict[str, np.ndarray], rows: int, sizes: list[int | None]
) -> None:
    """Where each input has the same number of them, and their number is free; else there is one part."""
    signature = Signature(infos, {}, "")
    assert row_count(arrays, signature) == rows
    parts = batches(arrays, signature, 3)
    assert [len(part["a"]) if part["a"].ndim else None for part in parts] == sizes
    assert all(part.keys() == arrays.keys() for part in parts)


def test_an_array_is_the_only_inputs(tmp_path: Path) -> None:
    """Of several inputs it could be any; nor has it a name."""
    np.save(tmp_path / "x.npy", np.zeros(3, np.float32))
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "none.json").write_text("{}")
    one, two = Signature({"a": _ROWS}, {}, ""), Signature({"a": _ROWS, "b": _ROWS}, {}, "")
    assert file_inputs(tmp_path / "list.json", one)["a"].tolist() == [1, 2]
    for name, signature, names in (("x.npy", two, "a, b"), ("none.json", one, "a")):
        with pytest.raises(ClientUsageError) as raised:
            file_inputs(tmp_path / name, signature)
        assert str(raised.value) == f"{tmp_path / name} has no names: the signature's inputs are {names}"
