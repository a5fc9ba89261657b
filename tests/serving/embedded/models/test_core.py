"""Which version a label names, and which labels may be assigned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from serving.apis.messages import ModelServerConfig, ModelSpec
from serving.embedded.models.core import ServerCore
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import FileSystemSource
from serving.errors import FailedPrecondition, InvalidArgument
from tests.support.fakes import FakeLoader, FakeServable


@pytest.fixture
def manager() -> Iterator[Manager[FakeServable]]:
    """A manager of fakes."""
    manager: Manager[FakeServable] = Manager(FakeLoader())
    yield manager
    manager.stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with versions 1 and 2."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    return tmp_path


def configured(
    manager: Manager[FakeServable], base: Path, labels: Mapping[str, int], *, for_unavailable: bool = False
) -> ServerCore[FakeServable]:
    """A server where versions 1 and 2 of m are AVAILABLE."""
    core = ServerCore(manager, FileSystemSource(manager.set_aspired), labels_for_unavailable=for_unavailable)
    core.configure(config(base, labels))
    assert manager.wait_until_settled(["m"], 10)
    return core


def config(base: Path, labels: Mapping[str, int]) -> ModelServerConfig:
    """A configuration of one model, m, all of whose versions are served, with these labels."""
    configuration = ModelServerConfig()
    model = configuration.model_config_list.config.add(name="m", base_path=str(base), model_platform="tensorflow")
    model.model_version_policy.all.SetInParent()
    model.version_labels.update(labels)
    return configuration


def version_of(core: ServerCore[FakeServable], label: str, name: str = "m") -> int:
    """The version that a request with a label gets."""
    with core.use(ModelSpec(name=name, version_label=label)) as version:
        return version.number


def test_labels_name_versions_of_their_model(manager: Manager[FakeServable], base: Path) -> None:
    """A configuration replaces them all."""
    core = configured(manager, base, {"stable": 1, "canary": 2})

    assert (version_of(core, "stable"), version_of(core, "canary")) == (1, 2)
    core.reload(config(base, {"stable": 2}))
    assert version_of(core, "stable") == 2
    for model, label in (("m", "canary"), ("n", "stable")):
        with pytest.raises(InvalidArgument, match=f"^Unrecognized servable version label: {label}$"):
            version_of(core, label, model)


def test_a_label_needs_an_available_version(manager: Manager[FakeServable], base: Path) -> None:
    """Whether it is new or moves; the text is TF Serving's."""
    core = configured(manager, base, {})
    core.reload(config(base, {"stable": 1}))

    for labels in ({"stable": 3}, {"canary": 3}):
        with pytest.raises(FailedPrecondition, match="assign label to version 3 of model m, which is not"):
            core.reload(config(base, labels))
    assert version_of(core, "stable") == 1


def test_a_new_label_may_come_early_where_the_server_allows_it(manager: Manager[FakeServable], base: Path) -> None:
    """A label that moves may not: its requests would fail from one moment to the next."""
    core = configured(manager, base, {}, for_unavailable=True)
    core.reload(config(base, {"canary": 3}))
    core.reload(config(base, {"canary": 3}))

    with pytest.raises(FailedPrecondition, match="version 4 of model m"):
        core.reload(config(base, {"canary": 4}))
