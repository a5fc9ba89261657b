"""What Ray is given and how its failures are told, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from scoring import cluster
from scoring.errors import ScoringError

pytestmark = pytest.mark.filterwarnings("ignore")


class Text(str):
    """A piece that is its own JSON."""

    def to_json(self) -> str:
        """Itself."""
        return str(self)


@pytest.mark.parametrize(
    ("pieces", "groups"),
    [
        ([], []),
        (["a"], [["a"]]),
        (["123456789"], [["123456789"]]),
        (["12345", "12345", "123456789", "1", "2"], [["12345", "12345"], ["123456789", "1"], ["2"]]),
    ],
)
def test_a_group_of_pieces_is_full_at_its_bytes(
    pieces: list[str], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten here; each begins anew."""
    monkeypatch.setattr(cluster, "_GROUP_BYTES", 10)
    given: Any = map(Text, pieces)
    assert list(cluster._groups(given)) == groups


@pytest.mark.parametrize(
    ("cause", "told"), [(None, "the last line"), (ValueError("first\nno such file"), "no such file")]
)
def test_what_ray_fails_with_is_one_line(cause: Exception | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the cause, or of Ray's own; what was done before stays."""
    import ray.data
    from ray.exceptions import RayError

    def rows() -> Iterator[dict[str, str]]:
        yield {"record": '{"piece": 1}'}
        error: Any = RayError("a traceback\nthe last line\n")
        error.cause = cause
        raise error

    monkeypatch.setattr(cluster, "Record", dict)
    data = SimpleNamespace(map_batches=lambda *_, **__: SimpleNamespace(iter_rows=rows))
    monkeypatch.setattr(ray.data, "from_items", lambda *_, **__: data)
    job: Any = None
    records: Any = cluster._scored(job, ["a"], (1, 1), 0)
    assert next(records) == {"piece": 1}
    with pytest.raises(ScoringError) as raised:
        next(records)
    assert str(raised.value) == f"Ray: {told}: run the same command again to go on"
