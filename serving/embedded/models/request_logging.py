"""Which models' requests are recorded, and where: TF Serving's `logging_config`.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/config/logging_config.proto. TF Serving itself has
no log collector, and refuses to start with one; here `file` is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from serving.apis.messages import ModelConfig
from serving.errors import InvalidArgument, PermissionDenied, quoted

_TYPES = ("", "file")
_DIRECTORY_MODE = 0o700


class RequestLogging(NamedTuple):
    """Of one model. filename_prefix: absolute. sampling_rate: the share of requests, from 0 to 1."""

    filename_prefix: str
    sampling_rate: float


class RequestLogs:
    """What the models' configuration says of recording.

    default: for models whose configuration says nothing. record: is told what is configured, by the models' names.
    """

    def __init__(
        self,
        default: RequestLogging | None = None,
        record: Callable[[Mapping[str, RequestLogging]], None] = lambda _: None,
    ) -> None:
        self._default = default
        self._record = record
        self._own_prefixes = {default.filename_prefix} if default else set()

    def checked(self, models: Mapping[str, ModelConfig], *, own: bool) -> dict[str, RequestLogging]:
        """What to record of which models.

        own: whether the configuration is the operator's own, and not a caller's. Raises InvalidArgument for one that
        cannot be followed, and PermissionDenied for a caller's with a place that is not in the operator's own.
        """
        logging: dict[str, RequestLogging] = {}
        for name, model in models.items():
            chosen = _request_logging(name, model) if model.HasField("logging_config") else self._default
            if chosen is not None:
                logging[name] = chosen
        prefixes = {each.filename_prefix for each in logging.values()}
        for prefix in prefixes - self._own_prefixes:
            if not own:
                raise PermissionDenied(
                    f"filename_prefix {quoted(prefix)}: a reload may only record where the server's own configuration "
                    "does"
                )
        for prefix in prefixes:
            _check_writable(prefix)
        return logging

    def take_over(self, logging: Mapping[str, RequestLogging], *, own: bool) -> None:
        """Records what `checked` gave from now on."""
        if own:
            default = {self._default.filename_prefix} if self._default else set()
            self._own_prefixes = default | {each.filename_prefix for each in logging.values()}
        self._record(logging)


def _request_logging(name: str, model: ModelConfig) -> RequestLogging:
    collector = model.logging_config.log_collector_config
    rate = model.logging_config.sampling_config.sampling_rate
    if collector.type not in _TYPES:
        raise InvalidArgument(
            f"Model {quoted(name)} has log_collector_config.type {quoted(collector.type)}: this server has `file` only"
        )
    if not collector.filename_prefix.startswith("/"):
        raise InvalidArgument(
            f"Model {quoted(name)} has log_collector_config.filename_prefix {quoted(collector.filename_prefix)!r}: "
            "give an absolute path, with which the names of the files will begin"
        )
    if not 0 <= rate <= 1:
        raise InvalidArgument(f"Model {quoted(name)} has sampling_config.sampling_rate {rate:g}: give one from 0 to 1")
    return RequestLogging(collector.filename_prefix, rate)


def _check_writable(filename_prefix: str) -> None:
    """Makes the directory of the files. Raises InvalidArgument when they cannot be written."""
    directory = Path(os.path.split(filename_prefix)[0])
    try:
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        reason = "" if os.access(directory, os.W_OK | os.X_OK) else "Permission denied"
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", error))
    if reason:
        raise InvalidArgument(f"filename_prefix {quoted(filename_prefix)} cannot be written to: {reason}")
