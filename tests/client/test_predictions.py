"""The predictions in a signature's outputs, and outputs that have none."""

from __future__ import annotations

import pytest

from client.errors import ServerError
from client.predictions import predictions
from client.types import Output, Prediction

_ROW = (0.01,) * 8 + (0.91, 0.01)
_PROBABILITIES = {"probabilities": Output((2, 10), [*_ROW, *_ROW])}


def test_names_come_from_the_server_or_else_from_the_clients_table() -> None:
    """So do the classes: the likeliest, where the server gives none."""
    bag = Prediction(8, "Bag", 0.91, _ROW)
    assert list(predictions(_PROBABILITIES, 2)) == [bag] * 2
    classes = {"class_ids": Output((2,), [8, 0]), "class_names": Output((2,), [b"sac", b"maillot"])}
    assert list(predictions({**_PROBABILITIES, **classes}, 2)) == [
        Prediction(8, "sac", 0.91, _ROW),
        Prediction(0, "maillot", 0.01, _ROW),
    ]


def test_classifys_scores_and_a_single_output_are_probabilities_too() -> None:
    """Whatever the single output is called."""
    [output] = _PROBABILITIES.values()
    names = Output((2, 10), [b"name"] * 20)
    for outputs in ({"scores": output, "classes": names}, {"output_0": output}, {"": output}):
        assert list(predictions(outputs, 2)) == list(predictions(_PROBABILITIES, 2))


def test_top_gives_the_likeliest_classes_first() -> None:
    """Ties keep the label order."""
    prediction, _ = predictions(_PROBABILITIES, 2)
    assert prediction.top(3) == [("Bag", 0.91), ("T-shirt/top", 0.01), ("Trouser", 0.01)]


@pytest.mark.parametrize(
    "output",
    [Output((1, 3), [0.1, 0.2, 0.7]), Output((1, 10), [0.1] * 9), Output((1, 10), [b"0.1"] * 10)],
    ids=["three", "nine", "texts"],
)
def test_an_answer_without_probabilities_is_an_error(output: Output) -> None:
    """The message has the shape that was expected, and those of the answer."""
    shape = list(output.shape)
    with pytest.raises(ServerError) as excinfo:
        predictions({"output_0": output}, 1)
    assert excinfo.value.details == (f"expected the probabilities [1, 10], the server answered {{'output_0': {shape}}}")


@pytest.mark.parametrize(
    "classes",
    [
        {"class_ids": Output((2,), [0])},
        {"class_ids": Output((2,), [0, 10])},
        {"class_names": Output((2,), [b"Bag"])},
    ],
    ids=["one id", "no such class", "one name"],
)
def test_classes_that_do_not_fit_the_probabilities_are_an_error(classes: dict[str, Output]) -> None:
    """Raised when the answer comes, before the first prediction is taken."""
    with pytest.raises(ServerError, match="class_ids and class_names do not fit its probabilities"):
        predictions({**_PROBABILITIES, **classes}, 2)


def test_every_class_may_be_in_one_answer() -> None:
    """As the server gives them, or the likeliest."""
    values = [float(row == column) for row in range(10) for column in range(10)]
    probabilities = {"probabilities": Output((10, 10), values)}
    assert [prediction.class_id for prediction in predictions(probabilities, 10)] == list(range(10))
    ids = {"class_ids": Output((10,), [*range(9, -1, -1)])}
    assert [prediction.class_id for prediction in predictions({**probabilities, **ids}, 10)] == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        ({"a": Output((1, 10), [0.1] * 10), "b": Output((1, 10), [0.1] * 10)}, 1),
        ({}, 1),
        ({"probabilities": Output((2, 10), [0.1] * 20)}, 1),
        ({"probabilities": Output((10,), [0.1] * 10)}, 1),
        ({"probabilities": Output((1, 10), [10**400] + [0.1] * 9)}, 1),
    ],
    ids=["two outputs", "none", "two rows", "flat", "too large"],
)
def test_what_are_no_probabilities_is_told_with_its_shapes(outputs: dict[str, Output], count: int) -> None:
    """Whichever of several outputs it would be is not known."""
    with pytest.raises(ServerError) as raised:
        predictions(outputs, count)
    shapes = {name: list(output.shape) for name, output in outputs.items()}
    assert str(raised.value) == f"INTERNAL: expected the probabilities [1, 10], the server answered {shapes}"
