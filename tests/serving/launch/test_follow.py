"""A server's models.config follows the labels and the versions, as long as the server runs."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from google.protobuf import text_format

from fashion_common.labels import labels_writer
from fashion_common.running import RunningServer, forget, recorded, running_servers
from serving.apis.messages import ModelServerConfig
from serving.launch import follow as follow_module
from serving.launch import follower
from serving.launch.access import ssl_config
from serving.launch.backends import ServeOptions
from serving.launch.follow import follow, following, repeat, running_server
from serving.launch.offer import Offer
from serving.launch.prepare import config_files, with_config
from tests.support.live import wait_until
from tests.support.status_servers import http_server

EVERY = Offer()


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServeOptions:
    """A server of the versions 1 and 2, `stable` and `canary`, of which nothing but the configuration is there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for version in (1, 2):
        (tmp_path / "models" / str(version)).mkdir(parents=True)
    options = ServeOptions(backend="embedded", model_base_path=tmp_path / "models", rest_port=1)
    labels = {"stable": 1, "canary": 2}
    return with_config(options, config_files(options, labels, [1, 2]), tmp_path / "config")


def configuration(options: ServeOptions) -> tuple[dict[str, int], list[int]]:
    """The labels and the versions that the server's models.config has."""
    text = (options.config_dir / "models.config").read_text()
    [model] = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    return dict(model.version_labels), list(model.model_version_policy.specific.versions)


def test_a_version_that_comes_is_asked_for_and_the_labelled_ones_stay(options: ServeOptions) -> None:
    """`canary` goes to it when the server answers with it, and not before."""
    server = running_server(options)
    with labels_writer(options.model_base_path) as writer:
        writer.move({"stable": 1}, action="serve")
    (options.model_base_path / "3").mkdir()
    follow(server, EVERY)
    assert configuration(options) == ({"stable": 1, "canary": 2}, [1, 2, 3])

    states = [{"version": "3", "state": "LOADING"}]

    def answer(_: Mapping[str, str]) -> tuple[int, bytes]:
        return 200, json.dumps({"model_version_status": states}).encode()

    with http_server(answer) as port:
        server = server._replace(url=f"http://127.0.0.1:{port}/v1/models/m")
        follow(server, EVERY)
        assert configuration(options) == ({"stable": 1, "canary": 2}, [1, 2, 3])
        states[0]["state"] = "AVAILABLE"
        follow(server, EVERY)
        assert configuration(options) == ({"stable": 1, "canary": 3}, [1, 3])


def test_what_has_not_changed_is_not_written(options: ServeOptions) -> None:
    """The server would take it over for nothing."""
    with labels_writer(options.model_base_path) as writer:
        writer.move({"stable": 1}, action="serve")

    def written() -> tuple[int, int]:
        status = (options.config_dir / "models.config").stat()
        return status.st_ino, status.st_mtime_ns

    before = written()
    follow(running_server(options), EVERY)
    assert written() == before


def test_without_versions_nothing_is_asked_for(options: ServeOptions) -> None:
    """The server itself says that they are gone."""
    before = configuration(options)
    for version in (1, 2):
        (options.model_base_path / str(version)).rmdir()
    follow(running_server(options), EVERY)
    assert configuration(options) == before


def test_the_record_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All paths absolute, so that another command finds them."""
    monkeypatch.chdir(tmp_path)
    options = ServeOptions(
        backend="embedded", model_base_path=Path("models"), model_name="m", rest_port=9, config_dir=tmp_path / "c",
        public_keys=[Path("a.pub"), Path("/b.pub")], tls_cert=Path("cert"), tls_key=Path("key"),
    )  # fmt: skip
    base = f"{tmp_path}/models"
    assert running_server(options) == RunningServer(
        base, base, "m", "https://127.0.0.1:9/v1/models/m", f"{tmp_path}/c",
        public_keys=(f"{tmp_path}/a.pub", "/b.pub"), tls_files=(f"{tmp_path}/cert", f"{tmp_path}/key"),
    )  # fmt: skip


def test_what_is_wrong_is_said_again_when_it_was_right_meanwhile(
    options: ServeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    """And when something else is wrong."""
    file = options.model_base_path / "labels.json"
    texts = iter(["{", "{", '{"labels": {}, "history": []}', "{", "["])

    def goes_on() -> bool:
        text = next(texts, None)
        if text is not None:
            file.write_text(text)
        return text is not None

    repeat(running_server(options), EVERY, goes_on)
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    start = f"Note: the server's configuration does not follow: {file} is damaged ("
    assert all(note.startswith(start) for note in notes)
    assert notes[0] == notes[1] != notes[2]


def test_a_certificate_that_is_renewed_is_followed(options: ServeOptions, tmp_path: Path) -> None:
    """In the same look as the labels."""
    (options.config_dir / "ssl.config").write_text("old")
    pems = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    identity = trustme.CA().issue_cert("127.0.0.1")
    identity.cert_chain_pems[0].write_to_path(pems[0])
    identity.private_key_pem.write_to_path(pems[1])
    looks = iter([True, False])
    server = running_server(options)._replace(tls_files=tuple(map(str, pems)))
    repeat(server, EVERY, lambda: next(looks))
    assert (options.config_dir / "ssl.config").read_text() == ssl_config(pems)


def test_a_container_has_its_own_base_path(options: ServeOptions) -> None:
    """Where its volume is mounted."""
    container = ServeOptions(backend="container", model_base_path=options.model_base_path)
    assert running_server(container).served_base_path == "/models/models"
    assert running_server(options).served_base_path == str(options.model_base_path)


def test_damaged_labels_are_said_once_and_followed_when_they_are_mended(
    options: ServeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server goes on as it was."""
    file = options.model_base_path / "labels.json"
    file.write_text("{")
    looks = iter(range(5))

    def goes_on() -> bool:
        look = next(looks, None)
        if look == 3:
            file.write_text('{"labels": {"blue": 1}, "history": []}')
        return look is not None

    repeat(running_server(options), EVERY, goes_on)

    assert capsys.readouterr().err.count("Note: the server's configuration does not follow: ") == 1
    assert configuration(options)[0]["blue"] == 1


def test_in_the_foreground_a_thread_follows_and_the_server_is_recorded(
    options: ServeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the end of the block; then nothing is left of either."""
    monkeypatch.setattr(follow_module, "POLL_SECONDS", 0.01)
    directory = tmp_path / "state/fashion-serving/8500"
    with following(options, directory, EVERY):
        assert running_servers(options.model_base_path) == [running_server(options)]
        with labels_writer(options.model_base_path) as writer:
            writer.move({"blue": 1}, action="label")
        wait_until(lambda: configuration(options)[0].get("blue") == 1)
    assert running_servers(options.model_base_path) == []
    assert not directory.exists()
    assert all(thread.name != "follow" for thread in threading.enumerate())
    (tmp_path / "file").touch()
    for nowhere in (None, tmp_path / "file/8500"):
        with following(options, nowhere, EVERY):
            assert running_servers(options.model_base_path) == []


@pytest.mark.parametrize("end", ["forgotten", "another's", "server ended"])
def test_the_process_of_a_detached_server_ends_with_it(
    options: ServeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """When the record is gone, is that of another server, or the server has ended by itself."""
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(follower, "_ALIVE_SECONDS", 0.01 if end == "server ended" else 1e6)
    directory = tmp_path / "8500"
    server: RunningServer = running_server(options)
    with recorded(server, directory):
        # Nothing says that a server runs there: server.json is missing.
        thread = threading.Thread(target=follower.main, args=(directory,))
        thread.start()
        if end == "forgotten":
            forget(directory)

        def ended() -> bool:
            if end == "another's":
                # Again and again: the thread may not have read the first one yet.
                shutil.copy(directory / "running.json", tmp_path / "copy")
                (tmp_path / "copy").replace(directory / "running.json")
            return not thread.is_alive()

        wait_until(ended)


def test_without_a_record_there_is_nobody_to_follow(tmp_path: Path) -> None:
    """It ends at once."""
    follower.main(tmp_path)
