"""The server that the recordings were made against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.live import KITCHEN, Server, recorded_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The recorded server's models, policy, labels and flags."""
    with recorded_server(tmp_path_factory.mktemp("contract"), KITCHEN) as made:
        yield made
