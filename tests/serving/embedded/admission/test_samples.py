"""Samples of requests: kept in what is spare of the budget, dropped where there is no room."""

from __future__ import annotations

import pytest

from serving.apis.messages import ModelSpec
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.samples import Sample, Samples, Spare

SPEC = ModelSpec(name="m")


def inputs() -> list[bytes]:
    """A message's inputs."""
    return [b"inputs"]


def response() -> list[bytes]:
    """A message."""
    return [b"response"]


def spare(most: int = 100, limit: int = 0) -> tuple[Budget, Spare]:
    """A budget, and what samples may have of it."""
    budget = Budget(limit, lambda: 0.0)
    return budget, Spare(budget, most)


def test_samples_hold_up_to_their_most_and_no_more_than_is_spare() -> None:
    """To the byte; what does not fit takes nothing, and what is released is there again."""
    budget, room = spare(most=100)
    assert room.hold(60)
    assert room.hold(40)
    assert not room.hold(1)
    assert (room.held, budget.used) == (100, 100)
    room.release(60)
    assert (room.held, budget.used) == (40, 40)
    budget, room = spare(most=100, limit=60)
    assert room.hold(30)
    assert not room.hold(1)
    assert (room.held, budget.used) == (30, 30)


def test_a_sample_keeps_a_request_and_its_answer() -> None:
    """And is whole once it has both; what it lets go of is told to the byte, and it has nothing then."""
    budget, room = spare()
    sample = Sample(room, "m")
    assert (sample.model, sample.size, sample.wants_arrays) == ("m", 0, True)
    assert (sample.request, sample.inputs, sample.response, sample.spec) == (("", b""), None, None, None)
    sample.ask("PredictRequest", b"head", 60, inputs)
    assert (sample.request, sample.inputs, sample.size) == (("PredictRequest", b"head"), inputs, 60)
    assert (sample.is_whole, sample.is_dropped) == (False, False)
    sample.answer(SPEC, 40, response)
    assert (sample.spec, sample.response, sample.size) == (SPEC, response, 100)
    assert (sample.is_whole, sample.is_dropped) == (True, False)
    assert budget.used == 100
    assert sample.let_go() == 100
    assert (sample.inputs, sample.response, sample.size, sample.is_whole) == (None, None, 0, False)
    assert sample.let_go() == 0


def test_a_sample_of_answers_holds_nothing_of_its_request() -> None:
    """But for the message's head."""
    budget, room = spare()
    sample = Sample(room, "m", keeps_inputs=False)
    sample.ask("PredictRequest", b"head", 60, inputs)
    assert (sample.request, sample.inputs, sample.size) == (("PredictRequest", b"head"), None, 0)
    assert budget.used == 0
    sample.answer(SPEC, 100, response)
    assert sample.is_whole
    assert budget.used == 100


@pytest.mark.parametrize("sizes", [(101, 1), (60, 41)], ids=["the request", "the answer"])
def test_a_sample_that_finds_no_room_is_dropped_whole(sizes: tuple[int, int]) -> None:
    """It holds nothing then, and takes nothing more."""
    budget, room = spare()
    sample = Sample(room, "m")
    sample.ask("PredictRequest", b"head", sizes[0], inputs)
    sample.answer(SPEC, sizes[1], response)
    assert sample.is_dropped
    assert (sample.inputs, sample.response, sample.size, sample.is_whole) == (None, None, 0, False)
    assert (room.held, budget.used) == (0, 0)
    sample.answer(SPEC, 1, response)
    assert not sample.is_whole
    assert (room.held, budget.used) == (0, 0)


def test_several_samples_of_one_request_are_told_the_same() -> None:
    """Arrays are wanted where one of them wants them."""

    class WithoutArrays(Sample):
        wants_arrays = False

    _, room = spare(most=1000)
    both = [Sample(room, "m"), WithoutArrays(room, "m")]
    samples = Samples(both)
    samples.ask("PredictRequest", b"head", 60, inputs)
    samples.answer(SPEC, 40, response)
    for sample in both:
        assert (sample.request, sample.inputs, sample.size) == (("PredictRequest", b"head"), inputs, 100)
        assert (sample.spec, sample.response) == (SPEC, response)
    assert samples.wants_arrays
    assert not Samples(both[1:]).wants_arrays
