"""The models.config of a server, derived from labels and versions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import pytest
from google.protobuf import text_format

from serving.apis import CONFIG_DIR
from serving.apis.messages import ModelConfig, ModelServerConfig
from serving.launch.errors import ServeUsageError
from serving.launch.models_config import derived, fixed

SHIPPED = (CONFIG_DIR / "models.config").read_text()


def model(text: str) -> ModelConfig:
    """The one model of a text."""
    [config] = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    return config


def follow(text: str, labels: Mapping[str, int], versions: Collection[int], available: Collection[int]) -> str:
    """The text for the model `coats` below /here."""
    return derived(text, name="coats", base_path="/here", labels=labels, versions=versions, available=available)


@pytest.mark.parametrize(
    ("present", "labels", "versions", "available", "loaded", "named"),
    [
        ({}, {"stable": 1, "canary": 3}, [1, 2, 3], [], [1, 3], {"stable": 1, "canary": 3}),
        ({"stable": 1}, {"stable": 3}, [1, 2, 3], [1], [1, 3], {"stable": 1}),
        ({"stable": 1}, {"stable": 3}, [1, 2, 3], [1, 3], [3], {"stable": 3}),
        ({"stable": 1}, {"stable": 2}, [1, 2, 3], [1, 3], [1, 2, 3], {"stable": 1}),
        ({"stable": 1, "blue": 1}, {"stable": 1}, [1, 2], [1], [1, 2], {"stable": 1}),
        ({"stable": 1}, {"stable": 9}, [1, 2], [1, 2], [1, 2], {"stable": 1}),
        ({}, {"stable": 1, "blue": 9}, [1, 2], [], [1, 2], {"stable": 1}),
        ({"stable": 1}, {"stable": 2}, [2], [], [2], {"stable": 1}),
    ],
    ids=["start", "not loaded yet", "loaded", "to be loaded", "removed", "gone", "new and gone", "its version is gone"],
)
def test_a_label_moves_when_its_version_is_available(
    present: dict[str, int],
    labels: dict[str, int],
    versions: list[int],
    available: list[int],
    loaded: list[int],
    named: dict[str, int],
) -> None:
    """Until then both versions are asked for; the newest is always, and no version that is not there."""
    start = model(SHIPPED)
    start.version_labels.clear()
    start.version_labels.update(present)
    text = text_format.MessageToString(ModelServerConfig(model_config_list={"config": [start]}))  # type: ignore[arg-type]

    config = model(follow(text, labels, versions, available))

    assert (config.name, config.base_path) == ("coats", "/here")
    assert list(config.model_version_policy.specific.versions) == loaded
    assert dict(config.version_labels) == named


def test_what_is_derived_from_the_same_is_the_same_text() -> None:
    """So that a server is not told for nothing."""
    text = follow(SHIPPED, {"stable": 1, "canary": 2}, [1, 2], [1, 2])
    assert follow(text, {"canary": 2, "stable": 1}, [2, 1], [1, 2]) == text


@pytest.mark.parametrize(
    ("labels", "versions", "count"),
    [({"stable": 1, "canary": 2}, [1, 2], 3), ({"stable": 2, "canary": 7}, [1, 2, 5, 7], 4), ({"stable": 7}, [7], 2)],
)
def test_a_file_that_nobody_keeps_up_to_date(labels: dict[str, int], versions: list[int], count: int) -> None:
    """So many of the newest versions that the labelled ones stay when one more comes; name and path stay."""
    config = model(fixed(SHIPPED, labels, versions))
    assert (config.name, config.base_path) == ("fashion_mnist", "/models/fashion_mnist")
    assert config.model_version_policy.latest.num_versions == count
    assert dict(config.version_labels) == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model {", "this is no ModelServerConfig in text protobuf: "),
        ("model_config_list { config {} config {} }", "models.config names 2 models: `fashion` keeps one that has one"),
        ("", "models.config names 0 models"),
    ],
)
def test_a_text_that_names_no_model_is_refused(text: str, message: str) -> None:
    """With what is wrong with it."""
    with pytest.raises(ServeUsageError, match=f"^{re.escape(message)}") as raised:
        fixed(text, {}, [])
    assert raised.value.exit_code == 2
    with pytest.raises(ServeUsageError, match=f"^{re.escape(message)}"):
        follow(text, {}, [1], [])


def test_without_versions_none_is_asked_for() -> None:
    """Labels stay where they were."""
    config = model(follow(SHIPPED, {"stable": 2}, [], []))
    assert list(config.model_version_policy.specific.versions) == []
    assert dict(config.version_labels) == {"stable": 1}


def test_a_file_for_a_server_without_labels() -> None:
    """Two versions at least, and one more than there are: the next one must not push a labelled one out."""
    config = model(fixed(SHIPPED, {}, []))
    assert config.model_version_policy.latest.num_versions == 2
    assert dict(config.version_labels) == {}
    assert model(fixed(SHIPPED, {"stable": 3}, [1, 2, 3, 4])).model_version_policy.latest.num_versions == 3
    assert model(fixed(SHIPPED, {}, [1, 2, 3])).model_version_policy.latest.num_versions == 4
