"""The default configuration files are found, and hold the messages that the servers read them as."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from serving.apis import CONFIG_DIR
from serving.apis.messages import BatchingParameters, ModelServerConfig, MonitoringConfig


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models.config", ModelServerConfig()),
        ("batching.config", BatchingParameters()),
        ("monitoring.config", MonitoringConfig()),
    ],
)
def test_the_default_configuration_holds_its_message(name: str, message: Message) -> None:
    """Every field that it has is known."""
    text_format.Parse((CONFIG_DIR / name).read_text(), message)

    assert message.ListFields()


def test_it_is_found_from_any_directory(tmp_path: Path) -> None:
    """It lies in the package, wherever that is installed."""
    program = "from serving.apis import CONFIG_DIR; print(CONFIG_DIR)"
    output = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)

    assert output == f"{CONFIG_DIR}\n"
    assert CONFIG_DIR.is_absolute()
