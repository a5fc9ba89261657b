"""Which version a label names, and which labels may be assigned."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from serving.apis.messages import ModelConfig, ModelServerConfig, ModelSpec
from serving.apis.status import Code
from serving.embedded.models import core
from serving.embedded.models.core import ServerCore
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import FileSystemSource
from serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
)
from tests.support.fakes import FakeLoader, FakeServable


@pytest.fixture
def loader() -> FakeLoader:
    """A loader of fakes."""
    return FakeLoader()


@pytest.fixture
def manager(loader: FakeLoader) -> Iterator[Manager[FakeServable]]:
    """A manager of fakes."""
    manager: Manager[FakeServable] = Manager(loader)
    yield manager
    manager.stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with versions 1 and 2."""
    make_versions(tmp_path, "1", "2")
    return tmp_path


def make_versions(path: Path, *names: str) -> None:
    """Directories that look like whole versions."""
    for name in names:
        (path / name).mkdir(parents=True)
        (path / name / "saved_model.pb").touch()


def configured(
    manager: Manager[FakeServable], base: Path, labels: Mapping[str, int], *, for_unavailable: bool = False
) -> ServerCore[FakeServable]:
    """A server where versions 1 and 2 of m are AVAILABLE."""
    core = ServerCore(
        manager, FileSystemSource(manager.set_aspired, settle_seconds=0), labels_for_unavailable=for_unavailable
    )
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


def with_another(own: ModelServerConfig, base: Path) -> ModelServerConfig:
    """A configuration with one model more, n."""
    own.model_config_list.config.add(name="n", base_path=str(base), model_platform="tensorflow")
    return own


def test_a_reload_whose_model_cannot_be_loaded_says_so(
    own: ServerCore[FakeServable], loader: FakeLoader, tmp_path: Path
) -> None:
    """In TF Serving's words, with the code UNKNOWN; the models that can be are served."""
    loader.broken = {7}
    make_versions(tmp_path, "models/n7/7")

    with pytest.raises(ServingError) as raised:
        own.reload(with_another(config(tmp_path / "models/m", {}), tmp_path / "models/n7"))

    assert (raised.value.code, str(raised.value)) == (
        Code.UNKNOWN,
        "1 model(s) did not become available: {{n due to error: INVALID_ARGUMENT: version 7 is broken}, }",
    )
    with own.use(ModelSpec(name="m")) as version:
        assert version.number == 1


def test_a_reload_ends_at_its_deadline(own: ServerCore[FakeServable], loader: FakeLoader, tmp_path: Path) -> None:
    """Its models go on loading."""
    loader.gates[7] = threading.Event()
    make_versions(tmp_path, "models/n7/7")
    own.reload_deadline_seconds = 0.05

    with pytest.raises(
        DeadlineExceeded, match=r"not become available after 0\.05 seconds: .*--reload_deadline_seconds"
    ):
        own.reload(with_another(config(tmp_path / "models/m", {}), tmp_path / "models/n7"))

    loader.gates[7].set()
    assert own.manager.wait_until_settled(["n"], 10)
    with own.use(ModelSpec(name="n")) as version:
        assert version.number == 7


@pytest.fixture
def own(manager: Manager[FakeServable], tmp_path: Path) -> ServerCore[FakeServable]:
    """A server whose own configuration has models/m, with a version each there and in models/n, other/o."""
    make_versions(tmp_path, "models/m/1", "models/n/1", "other/o/1")
    return configured(manager, tmp_path / "models" / "m", {})


def test_a_caller_may_name_base_paths_beside_the_servers_own(own: ServerCore[FakeServable], tmp_path: Path) -> None:
    """And those below them, through links that stay there."""
    (tmp_path / "models" / "link").symlink_to("n")

    for path in ("models/n", "models/link", "models/m/../n", "models/m"):
        own.reload(config(tmp_path / path, {}))


def test_a_caller_may_name_no_base_path_elsewhere(own: ServerCore[FakeServable], tmp_path: Path) -> None:
    """Whether it exists or not, by `..` or by a link; the text has what the caller sent, and the rule."""
    (tmp_path / "models" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "models" / "o").symlink_to(tmp_path / "other" / "o")
    elsewhere = (
        "/proc",
        "/none",
        "other/o",
        "other/none",
        "models/m/../../other/o",
        "models/out/o",
        "models/o",
        "models",
    )

    for path in elsewhere:
        with pytest.raises(PermissionDenied) as raised:
            own.reload(config(tmp_path / path, {}))
        assert str(raised.value) == (
            f"Model m has base_path {tmp_path / path}: a reload may only name one that is below the parent of a base "
            "path in the server's own configuration"
        )
    with own.use(ModelSpec(name="m")) as version:
        assert version.number == 1


def test_what_a_caller_has_reloaded_opens_nothing(own: ServerCore[FakeServable], tmp_path: Path) -> None:
    """What the operator reloads does."""
    make_versions(tmp_path, "models/n/deep/1")
    other = config(tmp_path / "other" / "o", {})

    own.reload(config(tmp_path / "models" / "n" / "deep", {}))
    with pytest.raises(PermissionDenied):
        own.reload(other)
    own.reload(other, own=True)
    own.reload(other)
    with pytest.raises(PermissionDenied):
        own.reload(config(tmp_path / "models" / "m", {}))


def test_a_base_path_in_the_root_opens_only_itself(manager: Manager[FakeServable]) -> None:
    """Everything is below the root."""
    core = ServerCore(manager, FileSystemSource(manager.set_aspired, settle_seconds=0))
    core.configure(config(Path("/no-such-model"), {}))

    with pytest.raises(PermissionDenied):
        core.reload(config(Path("/proc/1"), {}))
    core.configure(config(Path("/proc"), {}))
    core.reload(config(Path("/proc/1/task"), {}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(name="m" * 201), "201 characters of a model's name: a reload takes 200; "),
        (ModelConfig(base_path="/" * 4096), "4096 bytes of a base_path: a reload takes 4095; "),
        (ModelConfig(base_path="/a\0"), "base_path of model  has a NUL in it"),
        (ModelConfig(version_labels={str(number): 1 for number in range(101)}), "101 labels of a model: "),
        (ModelConfig(version_labels={"a" * 201: 1}), "201 characters of a label: "),
    ],
)
def test_a_caller_may_not_send_too_much(own: ServerCore[FakeServable], model: ModelConfig, message: str) -> None:
    """It is refused before anything is looked at."""
    configuration = ModelServerConfig()
    configuration.model_config_list.config.append(model)

    with pytest.raises(InvalidArgument, match=message):
        own.reload(configuration)


def test_a_caller_may_not_send_too_many_models(own: ServerCore[FakeServable]) -> None:
    """Each has its base path looked at, every second."""
    configuration = ModelServerConfig()
    configuration.model_config_list.config.extend([ModelConfig()] * 100_000)

    with pytest.raises(
        InvalidArgument, match=r"^100000 models: a reload takes 1000; edit --model_config_file for more"
    ):
        own.reload(configuration)


def largest(more: int) -> Iterator[ModelServerConfig]:
    """Configurations that are at a limit each, and `more` beyond it."""
    sizes = [
        ModelConfig(name="m" * (200 + more)),
        ModelConfig(base_path="/" * (4095 + more)),
        ModelConfig(version_labels={str(number): 1 for number in range(100 + more)}),
        ModelConfig(version_labels={"a" * (200 + more): 1}),
        ModelConfig(model_version_policy={"specific": {"versions": [1] * (1000 + more)}}),  # type: ignore[arg-type]
    ]
    for models in (*([size] for size in sizes), [ModelConfig()] * (1000 + more)):
        yield ModelServerConfig(model_config_list={"config": models})  # type: ignore[arg-type]


def test_what_a_caller_may_send_at_most() -> None:
    """Exactly that passes, and nothing beyond it."""
    for configuration in largest(0):
        core._check_size(configuration)
    for configuration in largest(1):
        with pytest.raises(InvalidArgument, match=": a reload takes "):
            core._check_size(configuration)


def test_ready_needs_a_model(own: ServerCore[FakeServable]) -> None:
    """With none, nothing is wrong, but nothing is served either."""
    before = own.ready
    empty = ModelServerConfig()
    empty.model_config_list.SetInParent()
    own.reload(empty)

    assert (before, own.ready, own.errors()) == (True, False, {})


def model_list(*models: ModelConfig) -> ModelServerConfig:
    """A configuration of these models."""
    configuration = ModelServerConfig()
    configuration.model_config_list.config.extend(models)
    return configuration


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            [ModelConfig(name="m", base_path="/m"), ModelConfig(name="m", base_path="/n")],
            "Illegal to list model m multiple times in config list",
        ),
        (
            [ModelConfig(name="m", base_path="m", model_platform="tensorflow")],
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            [ModelConfig(name="m", base_path="/m", model_platform="torch")],
            "Model m requests unsupported platform torch",
        ),
        (
            [ModelConfig(name="m", base_path="/m")],
            (
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            ),
        ),
        (
            [ModelConfig(name="m", base_path="/m", model_type=1, model_platform="tensorflow")],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform.",
        ),
        (
            [ModelConfig(name="m", base_path="/m", model_type=2)],
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
    ],
)
def test_a_configuration_that_cannot_be(
    manager: Manager[FakeServable], base: Path, models: list[ModelConfig], message: str
) -> None:
    """In TF Serving's words, at the start and when it is reloaded; what was configured stays."""
    starting = ServerCore(manager, FileSystemSource(manager.set_aspired, settle_seconds=0))
    with pytest.raises(InvalidArgument) as raised:
        starting.configure(model_list(*models))
    assert str(raised.value) == message
    assert (list(starting.model_names), starting.ready) == ([], False)
    running = configured(manager, base, {})
    for model in models:
        model.name = model.name.replace("m", "n")
    with pytest.raises(InvalidArgument) as raised:
        running.reload(model_list(*models), own=True)
    assert str(raised.value) == message.replace("odel m ", "odel n ")
    assert (list(running.model_names), running.ready) == (["m"], True)


def test_a_model_of_the_old_kind_is_tensorflows(manager: Manager[FakeServable], base: Path) -> None:
    """Its type says what its platform says elsewhere; the platform of a model stays what it was."""
    core = configured(manager, base, {})
    core.reload(model_list(ModelConfig(name="m", base_path=str(base), model_type=1)))
    with pytest.raises(InvalidArgument) as raised:
        core.reload(model_list(ModelConfig(name="m", base_path=str(base), model_platform="torch")))
    assert str(raised.value) == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is torch"
    )


def test_a_reload_of_another_kind_is_refused(own: ServerCore[FakeServable]) -> None:
    """A list of models is all that TF Serving takes."""
    other = ModelServerConfig()
    other.custom_model_config.SetInParent()
    for configuration in (ModelServerConfig(), other):
        with pytest.raises(InvalidArgument) as raised:
            own.reload(configuration)
        assert str(raised.value) == (
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    with pytest.raises(InvalidArgument, match=r"^ModelServer does not yet support custom model config\.$"):
        own.configure(other)
    assert own.ready


def test_the_log_says_what_was_taken_over(
    own: ServerCore[FakeServable], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each model with its labels; what a caller has made up is quoted, and a long list is cut."""
    caplog.set_level(logging.INFO)
    base = tmp_path / "models/m"
    own.reload(with_another(config(base, {"stable": 1, "canary": 1}), tmp_path / "models/n"))
    odd = ModelConfig(name="a\nb", base_path=f"{tmp_path}/models/n", model_platform="tensorflow")
    own.reload(model_list(odd))
    long = ModelConfig(name="x" * 9000, base_path=f"{tmp_path}/models/n", model_platform="tensorflow")
    other = ModelConfig(name="y" * 9000, base_path=f"{tmp_path}/models/n", model_platform="tensorflow")
    own.reload(model_list(long, other), own=True)
    first, second, third = (
        record.getMessage().removeprefix("Reloaded the configuration: ")
        for record in caplog.records
        if record.getMessage().startswith("Reloaded")
    )
    assert first == f"m from {base} (canary=1, stable=1); n from {tmp_path}/models/n"
    assert second == repr(f"a\nb from {tmp_path}/models/n")
    assert third == f"{'x' * 9000} from {tmp_path}/models/n; {'y' * 9000}"[:10_000]


def test_what_speaks_against_a_reload_changes_nothing(own: ServerCore[FakeServable], tmp_path: Path) -> None:
    """Neither who looks at it last, nor a new base path without versions; one that was there already may be empty."""
    asked: list[str] = []

    def refuse() -> None:
        asked.append("asked")
        raise PermissionDenied("no")

    with pytest.raises(PermissionDenied, match=r"^no$"):
        own.reload(config(tmp_path / "models/n", {}), before=refuse)
    with pytest.raises(NotFound, match=r"^No versions of model n can be read under its base path"):
        own.reload(with_another(config(tmp_path / "models/m", {}), tmp_path / "models/none"), before=refuse)
    with pytest.raises(NotFound, match=r"^No versions of model m can be read under its base path"):
        own.reload(config(tmp_path / "models/none", {}), before=refuse)
    assert asked == ["asked"]
    assert list(own.model_names) == ["m"]
    with own.use(ModelSpec(name="m")) as version:
        assert str(version.directory) == f"{tmp_path}/models/m/1"
    own.reload(config(tmp_path / "models/m", {}), before=lambda: asked.append("again"))
    assert asked == ["asked", "again"]


def test_a_request_names_a_model(manager: Manager[FakeServable], base: Path) -> None:
    """And a version of it, or a label, or none."""
    core = configured(manager, base, {"stable": 1})
    with pytest.raises(InvalidArgument, match=r"^ModelSpec has no name specified\.$"):
        core.use(ModelSpec())
    spec = ModelSpec(name="m")
    with core.use(spec) as version:
        assert version.number == 2
    spec.version.value = 1
    with core.use(spec) as version:
        assert version.number == 1


def test_a_first_configuration_that_was_replaced(manager: Manager[FakeServable], tmp_path: Path) -> None:
    """A worker begins with what the others were told since; its own base paths are the operator's all the same."""
    make_versions(tmp_path, "a/m/1", "b/n/1")
    core = ServerCore(manager, FileSystemSource(manager.set_aspired, settle_seconds=0))
    reloaded = model_list(ModelConfig(name="n", base_path=f"{tmp_path}/a/m", model_platform="tensorflow"))
    core.configure(config(tmp_path / "a/m", {}), reloaded)
    assert list(core.model_names) == ["n"]
    core.reload(config(tmp_path / "a/m", {}))
    with pytest.raises(PermissionDenied):
        core.reload(config(tmp_path / "b/n", {}))
