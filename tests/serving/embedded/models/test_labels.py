"""Which version a label names, and which labels may be assigned."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from serving.apis.messages import ModelConfig
from serving.embedded.models.labels import Labels
from serving.errors import FailedPrecondition, InvalidArgument

AVAILABLE = {("m", 1), ("m", 2)}


def labels(*, for_unavailable: bool = False) -> Labels:
    """The labels of a server where versions 1 and 2 of m are AVAILABLE."""
    return Labels(lambda name, version: (name, version) in AVAILABLE, for_unavailable=for_unavailable)


def config(versions: Mapping[str, int]) -> Mapping[str, ModelConfig]:
    """A configuration of one model, m, with these labels."""
    return {"m": ModelConfig(name="m", version_labels=versions)}


def test_labels_name_versions_of_their_model() -> None:
    """Assigning replaces them all."""
    assigned = labels()
    assigned.assign(config({"stable": 1, "canary": 2}))

    assert (assigned.version("m", "stable"), assigned.version("m", "canary")) == (1, 2)
    assigned.assign(config({"stable": 2}))
    assert assigned.version("m", "stable") == 2
    for model, label in (("m", "canary"), ("n", "stable")):
        with pytest.raises(InvalidArgument, match=f"^Unrecognized servable version label: {label}$"):
            assigned.version(model, label)


def test_a_label_needs_an_available_version() -> None:
    """Whether it is new or moves; the text is TF Serving's."""
    assigned = labels()
    assigned.check(config({"stable": 1}))
    assigned.assign(config({"stable": 1}))

    for version_labels in ({"stable": 3}, {"canary": 3}):
        with pytest.raises(FailedPrecondition, match="assign label to version 3 of model m, which is not"):
            assigned.check(config(version_labels))
    assert assigned.version("m", "stable") == 1


def test_a_new_label_may_come_early_where_the_server_allows_it() -> None:
    """A label that moves may not: its requests would fail from one moment to the next."""
    assigned = labels(for_unavailable=True)
    assigned.check(config({"canary": 3}))
    assigned.assign(config({"canary": 3}))
    assigned.check(config({"canary": 3}))

    with pytest.raises(FailedPrecondition, match="version 4 of model m"):
        assigned.check(config({"canary": 4}))
