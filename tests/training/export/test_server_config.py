"""What an export reads of a server's configuration: batch sizes, and the versions that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.apis import CONFIG_DIR
from serving.apis.messages import BatchingParameters
from training.errors import TrainingUsageError
from training.export.server_config import batch_sizes, version_labels, versions_in_use

BATCHING_CONFIG = CONFIG_DIR / "batching.config"


def test_the_batch_sizes_are_those_of_the_server_s_configuration() -> None:
    """serving/config/batching.config allows any size up to its greatest, of which 128 are warmed."""
    assert batch_sizes(BATCHING_CONFIG) == [1, 128]
    assert text_format.Parse(BATCHING_CONFIG.read_text(), BatchingParameters()).max_batch_size.value == 8192


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("max_batch_size { value: 32 } num_batch_threads { value: 4 }", [1, 32]),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 2 max_batch_size { value: 8 }", [2, 8]),
        ("", [1]),
    ],
    ids=["any size", "allowed sizes", "nothing"],
)
def test_without_allowed_sizes_one_and_the_greatest_are_warmed(tmp_path: Path, text: str, sizes: list[int]) -> None:
    """Any size may come then: the ends are enough."""
    (tmp_path / "batching.config").write_text(text)
    assert batch_sizes(tmp_path / "batching.config") == sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("allowed_batch_sizes: many", "is not a BatchingParameters in text protobuf: 1:22 : "),
        ("allowed_batch_sizes: 0", "has the batch size 0: at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    """The message names the file and what is wrong."""
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(TrainingUsageError) as caught:
        batch_sizes(path)
    assert str(caught.value).startswith(f"{path} {expected}")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(TrainingUsageError, match=f"^Cannot read {tmp_path / 'none'}: No such file or directory$"):
        batch_sizes(tmp_path / "none")


def test_named_versions_are_those_of_the_model_and_a_newer_server_s_fields_are_passed_over(tmp_path: Path) -> None:
    """By its name or its base path; labels and the versions of a policy must both stay."""
    path = tmp_path / "models.config"
    path.write_text(
        'model_config_list { config { name: "m" newer { thing: 1 } model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 3 versions: 4 } } "
        'version_labels { key: "stable" value: 2 } } '
        f'config {{ name: "same" base_path: "{tmp_path / "m"}" version_labels {{ key: "canary" value: 7 }} }} '
        'config { name: "other" base_path: "/other" version_labels { key: "stable" value: 9 } } }'
    )

    assert version_labels(path, tmp_path / "m") == {"stable": 2, "canary": 7}
    assert versions_in_use(path, tmp_path / "m") == {2, 3, 4, 7}


def test_versions_that_any_detached_server_names_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On whatever port, under whatever name, in a container too; those of another model are not."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    base_paths = {"8500": tmp_path / "m", "8600": Path("/models/m"), "8700": Path("/models/other")}
    for version, (port, base_path) in enumerate(base_paths.items(), start=2):
        file = tmp_path / "state/fashion-serving" / port / "config/models.config"
        file.parent.mkdir(parents=True)
        file.write_text(
            f'model_config_list {{ config {{ name: "coats" base_path: "{base_path}" '
            f'version_labels {{ key: "stable" value: {version} }} }} }}'
        )
    config = tmp_path / "models.config"
    config.write_text('model_config_list { config { name: "m" version_labels { key: "stable" value: 1 } } }')

    assert versions_in_use(config, tmp_path / "m") == {1, 2, 3}


def test_a_state_directory_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which versions its servers use is not known then."""
    monkeypatch.setenv("XDG_STATE_HOME", f"/{'x' * 300}")
    (tmp_path / "models.config").touch()
    with pytest.raises(TrainingUsageError, match=r"^Cannot read /x+/fashion-serving, which says"):
        versions_in_use(tmp_path / "models.config", tmp_path / "models")


def test_without_a_home_directory_no_server_was_detached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is in no passwd file."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert versions_in_use(CONFIG_DIR / "models.config", tmp_path / "fashion_mnist") == {1, 2}
