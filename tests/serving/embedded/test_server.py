"""The server in this process: what its end leaves."""

from __future__ import annotations

from pathlib import Path

from serving.embedded.flags import Flags
from serving.embedded.inference.model import LoadedModel
from serving.embedded.server import ModelServer
from tests.support.fakes import FakeServable


def test_every_model_is_freed_when_the_server_stops(tmp_path: Path) -> None:
    """Once, and also when it is told to stop again."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    servable = FakeServable(1)
    flags = Flags(port=0, model_name="m", model_base_path=str(tmp_path), shutdown_grace_seconds=1)
    server = ModelServer(flags, lambda name, number, _: LoadedModel(name, number, servable))
    assert server.start().grpc
    assert not servable.closed.is_set()
    for _ in range(2):
        server.stop()
        assert servable.closes == 1
