"""`fashion status` against a live server and where there is none."""

from __future__ import annotations

from click.testing import CliRunner

from client.cli import fashion
from tests.support.client_commands import APIS, NOBODY, run
from tests.support.road import Road


@APIS
def test_a_server_that_is_ready_is_not_waited_for(road: Road, api: str) -> None:
    """One line a version, over both APIs."""
    assert run(road, api, "status", "--wait", 30).output == "fashion_mnist  1  AVAILABLE\n"


def test_the_wait_ends_with_the_last_error() -> None:
    """After the seconds that --wait names."""
    result = CliRunner().invoke(fashion, ["status", "--server", NOBODY, "--wait", "0.3"])
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr
