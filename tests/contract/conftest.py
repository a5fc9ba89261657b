"""The server that the recordings were made against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import KITCHEN, Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The recorded server's models, policy, labels and flags."""
    config: Path = tmp_path_factory.mktemp("contract") / "models.config"
    config.write_text(f"""
model_config_list {{ config {{
  name: 'kitchen' base_path: '{KITCHEN}' model_platform: 'tensorflow'
  model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  version_labels {{ key: 'stable' value: 1 }} version_labels {{ key: 'canary' value: 2 }}
}} }}
""")
    with running(f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models") as made:
        yield made
