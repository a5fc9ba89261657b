"""The record of the servers that run on this machine."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from fashion_common.installation import state_directory
from fashion_common.running import RunningServer, forget, read_record, recorded, running_servers, version_states
from tests.support.live import free_port
from tests.support.status_servers import http_server


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def server(base: Path, url: str = "http://127.0.0.1:1/v1/models/m") -> RunningServer:
    """The record of a server of a base path."""
    return RunningServer(str(base), str(base), "m", url, "/config")


def test_a_server_is_known_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    """By its base path, however that is written; a record without the lock is that of a killed one."""
    directory = state_directory() / "8500"
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models")
    with recorded(server(tmp_path / "models"), directory):
        assert running_servers(tmp_path / "link") == [server(tmp_path / "models")]
        assert running_servers(tmp_path / "other") == []
    assert read_record(directory) == server(tmp_path / "models")
    assert running_servers(tmp_path / "models") == []
    forget(directory)
    forget(directory)
    assert not directory.exists()
    assert read_record(directory) is None


def test_what_else_is_in_the_directory_stays(tmp_path: Path) -> None:
    """As the log of a detached server."""
    directory = state_directory() / "8500"
    with recorded(server(tmp_path), directory):
        (directory / "server.log").touch()
    forget(directory)
    assert [path.name for path in directory.iterdir()] == ["server.log"]


def test_a_new_server_of_a_port_takes_the_place_of_the_last(tmp_path: Path) -> None:
    """Although something of the last one still holds its lock."""
    directory = state_directory() / "8500"
    with recorded(server(tmp_path / "a"), directory), recorded(server(tmp_path / "b"), directory):
        assert running_servers(tmp_path / "a") == []
        assert running_servers(tmp_path / "b") == [server(tmp_path / "b")]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"url": 1}'])
def test_a_record_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    """As a newer version may write it."""
    directory = state_directory() / "8500"
    with recorded(server(tmp_path), directory):
        (directory / "running.json").write_text(text)
        assert running_servers(tmp_path) == []


def test_without_a_home_no_server_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a container's user."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert running_servers(tmp_path) == []


def test_what_a_server_says_of_its_versions_and_labels(tmp_path: Path) -> None:
    """Over REST: the states of the versions, and the version that answers for a label."""
    paths: list[str] = []

    def answer(headers: Mapping[str, str]) -> tuple[int, bytes]:
        paths.append(headers[":path"])
        if paths[-1].endswith("/metadata"):
            return (200, b'{"model_spec": {"version": "7"}}') if "canary" in paths[-1] else (400, b'{"error": "none"}')
        states = [{"version": "7", "state": "AVAILABLE"}, {"version": "8", "state": "LOADING"}]
        return 200, json.dumps({"model_version_status": states}).encode()

    with http_server(answer) as port:
        asked = server(tmp_path, f"http://127.0.0.1:{port}/v1/models/m")
        assert asked.available() == {7}
        assert asked.states()[8]["state"] == "LOADING"
        assert asked.version_of("canary") == 7
        assert asked.version_of("a?b") is None
    assert paths[-1] == "/v1/models/m/labels/a%3Fb/metadata"


@pytest.mark.parametrize("token", ["", "fashion_secret"])
def test_a_server_is_asked_with_the_token_of_its_configuration(tmp_path: Path, token: str) -> None:
    """For its state, its labels and its metrics; with none where it has none."""
    asked: list[tuple[str, str | None]] = []

    def answer(headers: Mapping[str, str]) -> tuple[int, bytes]:
        asked.append((headers[":path"], headers.get("authorization")))
        return 200, "requests 3 \u00b5".encode()

    if token:
        (tmp_path / "own.token").write_text(token)
    with http_server(answer) as port:
        running = server(tmp_path, f"http://127.0.0.1:{port}/v1/models/m")._replace(config_dir=str(tmp_path))
        assert running.token == token
        assert running.metrics() == "requests 3 \u00b5"
        assert running.states() == {}
        assert running.version_of("stable") is None
    paths = ("/monitoring/prometheus/metrics", "/v1/models/m", "/v1/models/m/labels/stable/metadata")
    assert asked == [(path, f"Bearer {token}" if token else None) for path in paths]


def test_a_server_with_a_certificate_of_its_own_is_asked(tmp_path: Path) -> None:
    """It is on this machine: nobody has to vouch for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("other.example").configure_cert(context)
    with http_server(lambda _: (200, b"{}"), context=context) as port:
        assert server(tmp_path, f"https://127.0.0.1:{port}/v1/models/m").metrics() == "{}"


def test_servers_are_listed_in_the_order_of_their_ports(tmp_path: Path) -> None:
    """With all that is recorded of them; their records are text with one line."""
    one = server(tmp_path)._replace(public_keys=("a.pub",), tls_files=("key", "cert"))
    two = server(tmp_path, "http://127.0.0.1:2/v1/models/m")
    state = state_directory()
    with recorded(two, state / "8600"), recorded(one, state / "8500"):
        assert running_servers(tmp_path) == [one, two]
        assert (state / "8600" / "running.json").read_text() == json.dumps(two._asdict()) + "\n"
        (state / "8700").mkdir()
        (state / "8700" / "running.json").write_text(json.dumps(one._asdict()))
        assert running_servers(tmp_path) == [one, two], "one without a lock runs no more"


def test_nobody_answers(tmp_path: Path) -> None:
    """No versions then, and no label."""
    url = f"http://127.0.0.1:{free_port()}/v1/models/m"
    assert version_states(url) == {}
    assert server(tmp_path, url).version_of("stable") is None
    assert server(tmp_path, url).metrics() == ""
