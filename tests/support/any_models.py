"""Models of every dtype and shape on one live server: the recorded kitchen and the toys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import KITCHEN, running

NAMES = ("half_plus_two", "many_types", "assets", "big_answers", "gate", "tf1")


@pytest.fixture(scope="session")
def any_models(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The server's URL by API, grpc and rest."""
    config = tmp_path_factory.mktemp("any_models") / "models.config"
    paths = {"kitchen": KITCHEN, **{name: toys / name for name in NAMES}}
    models = "".join(
        f"config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' }}\n"
        for name, path in paths.items()
    )
    config.write_text(f"model_config_list {{ {models} }}")
    with running(f"--model_config_file={config}") as server:
        yield {"grpc": f"grpc://{server.grpc}", "rest": f"http://{server.rest}"}
