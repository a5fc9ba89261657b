"""Class names come from the model: here one whose names are not the client's own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from client.cli import fashion
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import Call, ModelSpec, Output

NAMES = ("maillot", "pantalon", "pull", "robe", "manteau", "sandale", "chemise", "basket", "sac", "bottine")


class French(FakeTransport):
    """Class 9, then class 0, under the model's own names."""

    def outputs(self, call: Call) -> dict[str, Output]:
        """Of a batch of two."""
        [tensor] = call.inputs.values()
        count = tensor.shape[0]
        assert count == 2
        return {
            "probabilities": Output((count, 10), [0.01] * 9 + [0.91] + [0.91] + [0.01] * 9),
            "class_ids": Output((count,), [9, 0]),
            "class_names": Output((count,), [NAMES[9].encode(), NAMES[0].encode()]),
        }


@pytest.mark.parametrize(
    ("form", "names_of"),
    [
        ("names", str.splitlines),
        ("csv", lambda text: [row["class_name"] for row in csv.DictReader(io.StringIO(text))]),
        ("json", lambda text: [record["class_name"] for record in json.loads(text)]),
        ("jsonl", lambda text: [json.loads(line)["class_name"] for line in text.splitlines()]),
        ("table", lambda text: [line.split()[-2] for line in text.splitlines()]),
    ],
    ids=["names", "csv", "json", "jsonl", "table"],
)
def test_predict_prints_the_names_that_the_server_gives(
    form: str, names_of: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every format."""
    connection = Connection([French()], ModelSpec())
    monkeypatch.setattr("client.connection.connect", lambda *_servers, **_settings: connection)
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((2, 28, 28), np.uint8))

    result = CliRunner().invoke(fashion, ["predict", "--format", form, str(path)])

    assert result.exit_code == 0, result.output
    assert names_of(result.stdout) == ["bottine", "maillot"]
