"""Live servers for all tests of serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.live import Server, running


@pytest.fixture(scope="session")
def toy_server(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every toy model."""
    names = ("half_plus_two", "row_mixer", "many_types", "assets", "gate", "tf1")
    with _serving(toys, names, tmp_path_factory.mktemp("toy_server")) as server:
        yield server


@pytest.fixture(scope="session")
def lite_toy_server(lite_toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same on LiteRT."""
    names = ("half_plus_two", "row_mixer", "strings", "named", "two", "old", "tf1")
    with _serving(lite_toys, names, tmp_path_factory.mktemp("lite_toy_server"), "--runtime=litert") as server:
        yield server


@contextmanager
def _serving(toys: Path, names: Sequence[str], directory: Path, *flags: str) -> Iterator[Server]:
    """A server with everything switched on that does not change answers. directory: for its configuration."""
    models = "".join(
        f"config {{ name: '{name}' base_path: '{toys / name}' model_platform: 'tensorflow' "
        "model_version_policy { all {} } }\n"
        for name in names
    )
    config, monitoring = directory / "models.config", directory / "monitoring.config"
    config.write_text(f"model_config_list {{ {models} }}")
    monitoring.write_text("prometheus_config { enable: true }")
    with running(
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        f"--grpc_socket_path={directory}/grpc.sock",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=20000,grpc.lb_policy_name=grpclb",
        "--enable_grpc_healthcheck_service",
        "--rest_api_enable_cors_support",
        "--max_request_bytes=2000000",
        "--max_request_rows=5000",
        "--max_tensor_bytes=1000000",
        *flags,
    ) as server:
        yield server
