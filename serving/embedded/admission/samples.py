"""Requests and answers that are kept for work that can be gone without, in what is spare of the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.apis.messages import ModelSpec
from serving.embedded.admission.budget import Budget

# The bytes of a message, in pieces.
Pieces = Callable[[], list[bytes]]


class Spare:
    """Bytes for samples: no more than `most`, and only what is spare of the budget. Lives on the event loop."""

    def __init__(self, budget: Budget, most: int) -> None:
        self._budget = budget
        self._most = most
        self.held = 0

    def hold(self, size: int) -> bool:
        """Takes bytes, if there is room for them."""
        if self.held + size > self._most or not self._budget.take_spare(size):
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """Gives bytes back."""
        self.held -= size
        self._budget.refund(size)


class Sample:
    """A request that was chosen, and its answer: dropped where there is no room for it.

    model: that it is to. keeps_inputs: whether more than the answer is wanted. request: the name of its message, and
    its bytes without the inputs. inputs, response: None where they are not kept. spec: of what answered.
    """

    # Whether tensors are wanted as arrays too.
    wants_arrays = True

    def __init__(self, spare: Spare, model: str, *, keeps_inputs: bool = True) -> None:
        self._spare = spare
        self._keeps_inputs = keeps_inputs
        self.model = model
        self.size = 0
        self.is_dropped = False
        self.request: tuple[str, bytes] = ("", b"")
        self.inputs: Pieces | None = None
        self.response: Pieces | None = None
        self.spec: ModelSpec | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it has its answer."""
        return self.response is not None

    def ask(self, name: str, request: bytes, size: int, inputs: Pieces) -> None:
        """Takes the request. name: of its message. request: without its inputs: their fields, of about `size` bytes."""
        self.request = name, request
        if self._keeps_inputs and self._hold(size):
            self.inputs = inputs

    def answer(self, spec: ModelSpec, size: int, response: Pieces) -> None:
        """Takes the answer, of about `size` bytes. spec: of what answered."""
        if self._hold(size):
            self.spec, self.response = spec, response

    def let_go(self) -> int:
        """Keeps nothing any more; gives the bytes that it held, which are to be released."""
        size, self.size = self.size, 0
        self.inputs = self.response = None
        return size

    def _hold(self, size: int) -> bool:
        if not self.is_dropped and self._spare.hold(size):
            self.size += size
            return True
        self.is_dropped = True
        self._spare.release(self.let_go())
        return False


class Samples:
    """Several samples of one request."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.wants_arrays = any(sample.wants_arrays for sample in samples)

    def ask(self, name: str, request: bytes, size: int, inputs: Pieces) -> None:
        """As a sample's."""
        for sample in self._samples:
            sample.ask(name, request, size, inputs)

    def answer(self, spec: ModelSpec, size: int, response: Pieces) -> None:
        """As a sample's."""
        for sample in self._samples:
            sample.answer(spec, size, response)
