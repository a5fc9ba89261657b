"""logging_config: what is taken over, and what is refused."""

from __future__ import annotations

import os
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
        (logged("/r", kind="snappy"), "Model m has log_collector_config.type snappy: this server has `file` only"),
        *(
            (
                logged(prefix),
                (
                    f"Model m has log_collector_config.filename_prefix {prefix!r}: give an absolute path, with which "
                    "the names of the files will begin"
                ),
            )
            for prefix in ("r", "")
        ),
        *(
            (logged("/r", rate=rate), f"Model m has sampling_config.sampling_rate {rate:g}: give one from 0 to 1")
            for rate in (1.01, -0.01, float("nan"))
        ),
        (logged("/proc/none/r"), "filename_prefix /proc/none/r cannot be written to: No such file or directory"),
        (logged("/dev/null/r"), "filename_prefix /dev/null/r cannot be written to: File exists"),
        (logged("/dev/null/d/r"), "filename_prefix /dev/null/d/r cannot be written to: Not a directory"),
    ],
)
def test_what_cannot_be_followed_is_refused(model: ModelConfig, text: str) -> None:
    """With the value, the rule and the fix."""
    with pytest.raises(InvalidArgument) as raised:
        RequestLogs().checked({"m": model}, own=True)
    assert str(raised.value) == text


def test_a_place_that_is_no_path() -> None:
    """It is told as any other that cannot be written to."""
    with pytest.raises(InvalidArgument, match=r"^filename_prefix /d\x00/r cannot be written to: .*embedded null "):
        RequestLogs().checked({"m": logged("/d\\0/r")}, own=True)


def test_a_directory_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before the first record is lost."""
    modes: list[tuple[object, int]] = []

    def refuse(path: object, mode: int) -> bool:
        modes.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(
        InvalidArgument, match=f"^filename_prefix {tmp_path}/r cannot be written to: Permission denied$"
    ):
        RequestLogs().checked({"m": logged(tmp_path / "r")}, own=True)
    assert modes == [(tmp_path, os.W_OK | os.X_OK)]


def test_the_operators_places_are_those_of_the_last_configuration(tmp_path: Path) -> None:
    """And of the flags; what was checked and not taken over is none."""
    logs = RequestLogs(RequestLogging(f"{tmp_path}/flags", 1.0))
    first, second = ({"m": logged(tmp_path / name)} for name in ("first", "second"))
    logs.take_over(logs.checked(first, own=True), own=True)
    logs.checked(second, own=True)
    with pytest.raises(PermissionDenied) as raised:
        logs.checked(second, own=False)
    assert str(raised.value) == (
        f"filename_prefix {tmp_path}/second: a reload may only record where the server's own configuration does"
    )
    logs.take_over(logs.checked(second, own=True), own=True)
    assert logs.checked(second, own=False)
    assert logs.checked({"m": logged(tmp_path / "flags")}, own=False)
    with pytest.raises(PermissionDenied):
        logs.checked(first, own=False)


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
