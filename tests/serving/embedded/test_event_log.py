"""The server's own log: one line for each event, as text or as JSON, and the table of them in the docs."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from serving.apis.messages import ModelServerConfig
from serving.embedded import event_log
from serving.embedded.event_log import EVENTS, LABEL_MOVED, VERSION_REFUSED, configure, log_event
from serving.embedded.models import core
from tests.support.live import KITCHEN

DOCS = Path(__file__).parents[3] / "docs/operations.md"


@pytest.fixture
def loggers() -> Iterator[None]:
    """What `configure` sets is as before afterwards."""
    each = [logging.getLogger(), event_log.log, event_log.notices]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in each]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_the_docs_have_every_event() -> None:
    """By name and level, with all fields that its sentence has."""
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \| ([^|]+) \|", DOCS.read_text(), re.MULTILINE)
    assert [(name, level) for name, level, _ in rows] == [
        (event.name, logging.getLevelName(event.level)) for event in EVENTS.values()
    ]
    for name, _, fields in rows:
        shown = {field for _, field, _, _ in Formatter().parse(EVENTS[name].text) if field}
        assert shown <= set(re.findall(r"`(\w+)`", fields)), name


def test_every_event_is_logged_somewhere() -> None:
    """No module is needed for one that never happens."""
    root = Path(event_log.__file__).parent
    code = "".join(file.read_text() for file in root.rglob("*.py") if file.name != "event_log.py")
    for name in (name for name, value in vars(event_log).items() if isinstance(value, event_log.Event)):
        assert re.search(rf"\b{name}\b[,)]", code), name


@pytest.mark.usefixtures("loggers")
def test_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The event and its fields beside the sentence; what is no event has its message, and its traceback in one line."""
    configure("json", logging.WARNING)
    event_log.log.setLevel(logging.INFO)
    log_event(LABEL_MOVED, model="m", label="stable", before=None, version=2)
    event_log.notices.info("Running")
    try:
        int("x")
    except ValueError:
        logging.getLogger("other").exception("failed")
    logging.getLogger("other").info("not shown")
    moved, notice, failure = map(json.loads, capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", moved.pop("time"))
    assert moved == {
        "level": "INFO", "event": "label_moved", "model": "m", "label": "stable", "before": None, "version": 2,
        "message": "Label stable of m moved from no version to 2",
    }  # fmt: skip
    assert (notice["level"], notice["message"]) == ("INFO", "Running")
    assert failure["traceback"].endswith("ValueError: invalid literal for int() with base 10: 'x'")


@pytest.mark.usefixtures("loggers")
def test_a_line_of_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever an error has in it: ends of lines, and what moves a terminal's cursor."""
    configure("text", logging.WARNING)
    log_event(VERSION_REFUSED, model="m", version=1, error="a\nb\x1b[2J {x} %s é")
    assert capsys.readouterr().err.endswith(" Servable {name: m version: 1} failed to load: a\\nb\\x1b[2J {x} %s é\n")


def test_labels_that_move(caplog: pytest.LogCaptureFixture) -> None:
    """One that is new, one that names another version, one that is gone; those that stay are not told."""
    caplog.set_level(logging.INFO)

    def model(**labels: int) -> Any:
        config = ModelServerConfig().model_config_list.config.add(name="m")
        config.version_labels.update(labels)
        return config

    core._log_labels("m", model(canary=1, old=1, same=3), model(canary=2, new=2, same=3))
    core._log_labels("m", None, model(first=1))
    assert [record.getMessage() for record in caplog.records] == [
        "Label canary of m moved from 1 to 2",
        "Label new of m moved from no version to 2",
        "Label old of m moved from 1 to no version",
        "Label first of m moved from no version to 1",
    ]


def test_the_log_of_a_server_as_json(tmp_path: Path) -> None:
    """Every line: what is ignored, loads, addresses, a version that is refused, unloads."""
    shutil.copytree(KITCHEN / "2", tmp_path / "m/2")
    (tmp_path / "m/3").mkdir()
    (tmp_path / "m/3/saved_model.pb").write_bytes(b"x")
    config = tmp_path / "models.config"
    config.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path}/m' model_platform: 'tensorflow' "
        "model_version_policy { all {} } } }"
    )
    command = [
        sys.executable, "-m", "serving.embedded", "--port=0", "--rest_api_port=0", f"--model_config_file={config}",
        "--log_format=json", "--mixed_precision=bfloat16",
    ]  # fmt: skip
    lines: list[dict[str, Any]] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["message"].startswith("Exporting"):
                process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    events = {line["event"]: line for line in lines if "event" in line}
    assert events.keys() == {"runtime_chosen", "version_loaded", "version_refused", "version_unloaded"}
    loaded, refused = events["version_loaded"], events["version_refused"]
    assert (loaded["model"], loaded["version"], refused["version"], refused["attempt"]) == ("m", 2, 3, 1)
    assert 0 < loaded["seconds"] < 60
    assert refused["error"]
    assert [line["message"].split(" ")[0] for line in lines if "event" not in line] == [
        "--mixed_precision", "Running", "Exporting",
    ]  # fmt: skip
