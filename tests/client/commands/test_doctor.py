"""`fashion doctor` against a live server, where there is none, and over fake transports."""

from __future__ import annotations

import json
import re

from click.testing import CliRunner

from client.cli import fashion
from client.commands.doctor import diagnose
from client.connection import Connection
from client.transports.fake import FakeTransport
from client.types import ModelSpec, VersionStatus
from tests.support.client_commands import APIS, NOBODY, run
from tests.support.road import Road


@APIS
def test_a_good_server_passes_every_check(road: Road, api: str) -> None:
    """Five checks, each with what it saw."""
    lines = run(road, api, "doctor").output.splitlines()
    assert lines[:4] == [
        "ok       reachable   the server answers",
        "ok       model       fashion_mnist: version 1 is AVAILABLE",
        "ok       signatures  serving_default, encoded_images, float_images, classify",
        "ok       answer      ten probabilities that add up to 1",
    ]
    assert re.fullmatch(r"(ok     |warning)  latency     [\d.]+ ms a request \(median of 20\)", lines[4])


def test_a_bad_one_gets_a_fix(road: Road) -> None:
    """No server, another model: the failed check, its fix, exit code 1."""
    result = CliRunner().invoke(fashion, ["doctor", "--server", NOBODY])
    assert result.exit_code == 1
    assert "FAILED   reachable" in result.output
    assert "fix: start it with `fashion serve`" in result.output
    result = run(road, "rest", "doctor", "--model-name", "other", "--json")
    assert result.exit_code == 1
    assert [finding["state"] for finding in json.loads(result.output)] == ["failed"]


def test_the_first_failure_ends_the_checks() -> None:
    """A model that cannot be loaded shows the server's reason; a plain export is a warning, and goes on."""
    loading = FakeTransport(versions=[VersionStatus(1, "END", "INTERNAL", "no such variables")])
    findings = list(diagnose(Connection([loading], ModelSpec())))
    assert [(finding.check, finding.state) for finding in findings] == [("reachable", "ok"), ("model", "failed")]
    assert findings[1].seen == "fashion_mnist: version 1 is END: no such variables"
    findings = list(diagnose(Connection([FakeTransport()], ModelSpec())))
    assert [finding.state for finding in findings[:4]] == ["ok", "ok", "warning", "ok"]
    assert findings[2].seen == "not an export of ours: without encoded_images, float_images, classify"
