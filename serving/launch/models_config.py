"""`models.config` as a server needs it: derived from the labels and the versions that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from google.protobuf import text_format

from serving.apis.messages import ModelConfig, ModelServerConfig
from serving.launch.errors import ServeUsageError


def derived(
    text: str,
    *,
    name: str,
    base_path: str,
    labels: Mapping[str, int],
    versions: Collection[int],
    available: Collection[int] = (),
) -> str:
    """The text of a running server's models.config: it asks for the labelled versions and for the newest one.

    text: the present one. labels: as they should be. versions: those that are there. available: those that the server
    answers with. A label that has a version goes to the next when that is AVAILABLE: TF Serving would refuse the
    whole file. Raises ServeUsageError for a text without a model.
    """
    config, model = _parsed(text)
    present = {label: version for label, version in model.version_labels.items() if label in labels}
    wanted = {label: version for label, version in labels.items() if version in versions}
    now = {
        label: version if version in available or label not in present else present[label]
        for label, version in {**present, **wanted}.items()
        for version in [wanted.get(label, version)]
    }
    model.name, model.base_path = name, base_path
    loaded = {*wanted.values(), *now.values(), max(versions, default=0)} & set(versions)
    model.model_version_policy.specific.versions[:] = sorted(loaded)
    _set_labels(model, now)
    return text_format.MessageToString(config)


def fixed(text: str, labels: Mapping[str, int], versions: Collection[int]) -> str:
    """The text of a models.config that nobody keeps up to date, as compose and Kubernetes have it.

    It asks for so many of the newest versions that the labelled ones are among them, and stay when one more comes.
    Raises ServeUsageError for a text without a model.
    """
    config, model = _parsed(text)
    oldest = min(labels.values(), default=0)
    count = sum(version >= oldest for version in versions) + 1
    model.model_version_policy.latest.num_versions = max(2, count)
    _set_labels(model, labels)
    return text_format.MessageToString(config)


def _parsed(text: str) -> tuple[ModelServerConfig, ModelConfig]:
    try:
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise ServeUsageError(f"this is no ModelServerConfig in text protobuf: {error}") from error
    if len(config.model_config_list.config) != 1:
        count = len(config.model_config_list.config)
        raise ServeUsageError(f"models.config names {count} models: `fashion` keeps one that has one")
    return config, config.model_config_list.config[0]


def _set_labels(model: ModelConfig, labels: Mapping[str, int]) -> None:
    model.version_labels.clear()
    model.version_labels.update(labels)
