"""logging_config: what is taken over, and what is refused."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.apis.messages import ModelConfig
from serving.embedded.models.request_logging import RequestLogging, RequestLogs
from serving.errors import InvalidArgument, PermissionDenied


def logged(prefix: object, *, rate: float = 0.5, kind: str = "file") -> ModelConfig:
    """A model's configuration that has its requests recorded."""
    text = (
        f"logging_config {{ log_collector_config {{ type: '{kind}' filename_prefix: '{prefix}' }} "
        f"sampling_config {{ sampling_rate: {rate} }} }}"
    )
    return text_format.Parse(text, ModelConfig())


def test_each_model_has_its_own_or_the_flags(tmp_path: Path) -> None:
    """One that says nothing is recorded as the flags say; without flags, not at all."""
    models = {"a": logged(tmp_path / "a"), "b": logged(tmp_path / "b", rate=0, kind=""), "c": ModelConfig()}
    own = {"a": RequestLogging(f"{tmp_path}/a", 0.5), "b": RequestLogging(f"{tmp_path}/b", 0.0)}
    assert RequestLogs().checked(models, own=True) == own
    flags = RequestLogging(f"{tmp_path}/flags", 1.0)
    assert RequestLogs(flags).checked(models, own=True) == {**own, "c": flags}


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (logged("/r", kind="snappy"), r"Model m has log_collector_config.type snappy: this server has `file` only"),
        (logged("r"), r"filename_prefix 'r': give an absolute path, with which the names of the files will begin"),
        (logged(""), r"filename_prefix '': give an absolute path"),
        (logged("/r", rate=1.01), "sampling_config.sampling_rate 1.01: give one from 0 to 1"),
        (logged("/r", rate=-0.01), "sampling_config.sampling_rate -0.01: give one from 0 to 1"),
        (logged("/r", rate=float("nan")), "sampling_config.sampling_rate nan: give one from 0 to 1"),
        (logged("/proc/none/r"), "filename_prefix /proc/none/r cannot be written to: No such file or directory"),
        (logged("/dev/null/r"), "filename_prefix /dev/null/r cannot be written to: "),
    ],
)
def test_what_cannot_be_followed_is_refused(model: ModelConfig, text: str) -> None:
    """With the value, the rule and the fix."""
    with pytest.raises(InvalidArgument, match=text):
        RequestLogs().checked({"m": model}, own=True)


def test_the_directory_is_made(tmp_path: Path) -> None:
    """For its owner only."""
    RequestLogs().checked({"m": logged(tmp_path / "new" / "r", rate=1)}, own=True)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_caller_names_no_new_place(tmp_path: Path) -> None:
    """Or else whoever may reload could write anywhere; the operator's own places it may name."""
    recorded: list[Mapping[str, RequestLogging]] = []
    logs = RequestLogs(RequestLogging(f"{tmp_path}/flags", 1.0), recorded.append)
    own = logs.checked({"m": logged(tmp_path / "own")}, own=True)
    logs.take_over(own, own=True)
    for prefix in ("own", "flags"):
        again = logs.checked({"n": logged(tmp_path / prefix, rate=1)}, own=False)
        logs.take_over(again, own=False)
        assert recorded[-1] == {"n": RequestLogging(f"{tmp_path}/{prefix}", 1.0)}
    with pytest.raises(PermissionDenied, match="a reload may only record where the server's own configuration does"):
        logs.checked({"m": logged(tmp_path / "new" / "other")}, own=False)
    assert not (tmp_path / "new").exists()
