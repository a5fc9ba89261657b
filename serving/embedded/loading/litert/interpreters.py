"""LiteRT's interpreters of one model: each run has one for itself.

An interpreter is called through the wrapper beneath its public class: that one knows the first subgraph alone, and its
signature runner resizes and copies all inputs and outputs at every call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from serving.apis.tensors import Array
from serving.embedded.loading.litert.flatbuffer import Tensor

# An interpreter keeps the memory of its largest run. One that had larger inputs and outputs is not used again: a new
# one costs less than such a run.
_KEPT_BYTES = 4 * 2**20
# A part of a batch has at least so many rows: fewer are quicker together.
_PART_ROWS = 32


class Function(NamedTuple):
    """What one run computes: all inputs of a subgraph, and the outputs by their tensors' numbers."""

    subgraph: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[int, ...]


class Interpreters:
    """Interpreters of one model, made when they are needed. Threads may share the object.

    kept: how many runs are made at a time in threads, since more would only take the processor from each other; as many
    interpreters, and one for the event loop, are kept. parts: over how many a batch is split, where a function has one
    input.
    """

    def __init__(self, content: bytes, kept: int, parts: int = 1) -> None:
        self._content = content
        self._kept = kept
        self._parts = parts
        self._threads = ThreadPoolExecutor(parts - 1, "part") if parts > 1 else None
        self._waiting = [_Interpreter(content)]
        self._places = threading.Semaphore(kept)

    def prepare(self, subgraphs: Collection[int]) -> None:
        """Lays the first one's subgraphs out in memory. Raises RuntimeError for one that LiteRT cannot run."""
        for subgraph in subgraphs:
            self._waiting[0].allocate(subgraph)

    def run(self, function: Function, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for the inputs. Raises RuntimeError or ValueError with LiteRT's text."""
        if self._threads is not None and len(arrays) == 1 and arrays[0].ndim:
            outputs = self._run_in_parts(self._threads, function, arrays[0])
            if outputs is not None:
                return outputs
        return self._run(function, arrays)

    def close(self) -> None:
        """Frees them; those that run are freed after it."""
        self._kept = -1
        self._waiting.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def _run(self, function: Function, arrays: Sequence[Array]) -> list[Array]:
        if _is_event_loop():
            # It waits for nobody.
            return self._run_one(function, arrays)
        with self._places:
            return self._run_one(function, arrays)

    def _run_one(self, function: Function, arrays: Sequence[Array]) -> list[Array]:
        try:
            interpreter = self._waiting.pop()
        except IndexError:
            interpreter = _Interpreter(self._content)
        # One that failed is not used again: its tensors may be in any state.
        outputs = interpreter.run(function, arrays)
        size = sum(array.nbytes for array in arrays) + sum(array.nbytes for array in outputs)
        # One more than the threads' is the event loop's.
        if size <= _KEPT_BYTES and len(self._waiting) <= self._kept:
            self._waiting.append(interpreter)
        return outputs

    def _run_in_parts(self, threads: ThreadPoolExecutor, function: Function, batch: Array) -> list[Array] | None:
        """The outputs, computed in parts; None for a batch too small for that, or outputs that do not go by rows."""
        count = min(self._parts, len(batch) // _PART_ROWS)
        if count < 2:  # noqa: PLR2004 - one part is the batch itself
            return None
        first, *others = np.array_split(batch, count)
        runs = [threads.submit(self._run, function, [part]) for part in others]
        parts = [self._run(function, [first]), *(run.result() for run in runs)]
        for part, outputs in zip((first, *others), parts, strict=True):
            if any(output.shape[:1] != part.shape[:1] for output in outputs):
                self._parts = 1
                return None
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


class _Interpreter:
    """One interpreter, which remembers what shapes its inputs have: to resize them costs as much as a small run."""

    def __init__(self, content: bytes) -> None:
        # One thread. Of the exported model, two take a quarter less for 1,000 images where a CPU is idle, but more for
        # one image, and more for any batch where no CPU is; runs go side by side instead.
        self._public = Interpreter(model_content=content, num_threads=1)
        self._wrapper: Any = self._public._interpreter  # noqa: SLF001 - see above
        self._shapes: dict[int, list[tuple[int, ...]]] = {}

    def allocate(self, subgraph: int) -> None:
        self._wrapper.AllocateTensors(subgraph)

    def run(self, function: Function, arrays: Sequence[Array]) -> list[Array]:
        wrapper, subgraph = self._wrapper, function.subgraph
        shapes = [array.shape for array in arrays]
        if self._shapes.get(subgraph) != shapes:
            for tensor, shape in zip(function.inputs, shapes, strict=True):
                _check_shape(tensor, shape)
                wrapper.ResizeInputTensor(tensor.number, np.array(shape, np.int32), False, subgraph)
            wrapper.AllocateTensors(subgraph)
            self._shapes[subgraph] = shapes
        for tensor, array in zip(function.inputs, arrays, strict=True):
            wrapper.SetTensor(tensor.number, array, subgraph)
        wrapper.Invoke(subgraph)
        return [wrapper.GetTensor(index, subgraph) for index in function.outputs]


def _is_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError for a shape that an input does not take. The first size is always free, as in TF Serving.

    A tensor without a shape takes any: the file does not tell a scalar from an unknown rank.
    """
    sizes = zip(tensor.shape[1:], shape[1:], strict=False)
    if tensor.shape and (len(shape) != len(tensor.shape) or any(size not in (-1, given) for size, given in sizes)):
        raise ValueError(f"Input {tensor.name} takes the shape {_text(tensor.shape)}, not {_text(shape)}")


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join('?' if size < 0 else str(size) for size in shape)}]"
