"""How many interpreters of a model there are, what each keeps, and over how many a batch is split."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.apis.tensors import Array
from serving.embedded.loading.litert import interpreters
from serving.embedded.loading.litert.flatbuffer import ModelFile
from serving.embedded.loading.litert.interpreters import Function, Interpreters

Runs = list[tuple[int, str]]


def function_of(content: bytes) -> Function:
    """All inputs of a model's first subgraph, and its outputs."""
    graph = ModelFile(content).subgraphs()[0]
    return Function(0, graph.inputs, tuple(tensor.number for tensor in graph.outputs))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The rows of each run of an interpreter, and its thread's name without a number."""
    made: Runs = []
    run: Callable[..., list[Array]] = interpreters._Interpreter.run

    def noted(interpreter: object, function: Function, arrays: list[Array]) -> list[Array]:
        made.append((len(arrays[0]), threading.current_thread().name.partition("_")[0]))
        return run(interpreter, function, arrays)

    monkeypatch.setattr(interpreters._Interpreter, "run", noted)
    return made


@pytest.mark.parametrize(
    ("rows", "parts"),
    [(1, [1]), (63, [63]), (64, [32, 32]), (95, [47, 48]), (96, [32, 32, 32]), (1000, [333, 333, 334])],
)
def test_a_batch_is_split_where_each_part_has_enough_rows(
    lite_toys: Path, runs: Runs, rows: int, parts: list[int]
) -> None:
    """32; the first part runs where it was asked for, the others in threads of their own."""
    content = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    model = Interpreters(content, 3, 3)
    x = np.arange(rows, dtype=np.float32)
    outputs = model.run(function_of(content), [x])
    assert sorted(output.tolist() for output in outputs) == sorted([(x / 2 + 2).tolist(), [2.0] * rows])
    assert sorted(count for count, _ in runs) == parts
    assert sorted(name for _, name in runs) == ["MainThread", *["part"] * (len(parts) - 1)]
    model.close()


def test_outputs_that_do_not_go_by_rows_are_not_put_together(lite_toys: Path, runs: Runs) -> None:
    """The batch runs again as a whole, and so does every one after it."""
    content = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    model = Interpreters(content, 2, 2)
    function = function_of(content)
    shapes = iter([(32,), (31,)])
    run: Callable[..., list[Array]] = interpreters._Interpreter.run

    def cut(interpreter: object, function: Function, arrays: list[Array]) -> list[Array]:
        outputs = run(interpreter, function, arrays)
        return [output[: next(shapes, (len(output),))[0]] for output in outputs]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreters._Interpreter, "run", cut)
        assert [len(output) for output in model.run(function, [np.ones(64, np.float32)])] == [64, 64]
    assert sorted(count for count, _ in runs) == [32, 32, 64]
    runs.clear()
    model.run(function, [np.ones(64, np.float32)])
    assert runs == [(64, "MainThread")]
    model.close()


def test_an_interpreter_that_had_much_is_not_used_again(lite_toys: Path) -> None:
    """Inputs and outputs of more than 4 MiB together."""
    content = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    function = function_of(content)
    only = function._replace(outputs=function.outputs[:1])
    for count, kept in ((2**19, 1), (2**19 + 1, 0)):
        model = Interpreters(content, 1)
        model.run(only, [np.zeros(count, np.float32)])
        assert len(model._waiting) == kept


def test_one_more_than_the_threads_is_kept(lite_toys: Path) -> None:
    """That of the event loop; none once they are closed."""
    content = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    function, x = function_of(content), [np.ones(1, np.float32)]
    model = Interpreters(content, 2)
    for waiting, kept in ((0, 1), (3, 3), (4, 3)):
        model._waiting[:] = [interpreters._Interpreter(content) for _ in range(waiting)]
        model.run(function, x)
        assert len(model._waiting) == kept
    model.close()
    assert model._waiting == []
    assert model.run(function, x)[0].tolist()
    assert model._waiting == []


def test_shapes_are_told_as_they_are(lite_toys: Path) -> None:
    """Sizes of 0 are sizes; a free one is a question mark; the first one is always free."""
    content = (lite_toys / "strings" / "1" / "model.tflite").read_bytes()
    function = function_of(content)
    model = Interpreters(content, 1)
    words = {tensor.name: tensor for tensor in function.inputs}
    assert {tensor.shape for tensor in words.values()} == {(-1,), (-1, 2)}

    def arrays(*shape: int) -> list[Array]:
        return [
            np.zeros(shape, np.float32) if tensor.shape == (-1, 2) else np.full(shape[:1], b"w", object)
            for tensor in function.inputs
        ]

    for shape, text in (((0, 3), "[0,3]"), ((5, 0), "[5,0]"), ((2, 2, 2), "[2,2,2]"), ((2,), "[2]")):
        with pytest.raises(ValueError, match=r"^Input \S+ takes the shape ") as raised:
            model.run(function, arrays(*shape))
        assert str(raised.value).partition(" takes ")[2] == f"the shape [?,2], not {text}"
    assert [len(output) for output in model.run(function, arrays(3, 2))] == [3, 3, 3]
