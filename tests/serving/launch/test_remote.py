"""`fashion serve --model-base-path ADDRESS`: pulled before the start, and followed while it is served."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from delivery.places import Place
from fashion_common.installation import install_command
from fashion_common.labels import labels_writer
from fashion_common.layout import version_directories
from fashion_common.running import version_states
from serving.embedded.flags import Flags
from serving.embedded.options import model_server_config
from serving.errors import ServerConfigError
from serving.launch import remote
from serving.launch.errors import LaunchError, ServeUsageError
from serving.launch.remote import ADDRESS_VARIABLE, detached_puller, following_source, opened, pull_first
from tests.support.console import FASHION
from tests.support.keys import key_pair
from tests.support.live import KITCHEN, free_port, wait_until


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model base path elsewhere, with the version 1; the user's directories are the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(KITCHEN / "1", tmp_path / "elsewhere/kitchen/1")
    return tmp_path / "elsewhere/kitchen"


def add(source: Path, number: int) -> None:
    """One more version."""
    shutil.copytree(KITCHEN / "1", source / str(number))


def serve(*arguments: object) -> Result:
    """`fashion serve`, which is not to start."""
    return CliRunner().invoke(fashion, ["serve", "--backend=embedded", *map(str, arguments)])


def test_it_is_pulled_served_and_followed(source: Path, tmp_path: Path) -> None:
    """The versions come to the user's cache; one that comes there later is served too."""
    program = "import serving.launch.remote as r; r.WATCH_SECONDS = 0.2; from client.cli import main; main()"
    arguments = ["serve", "--backend=embedded", f"--model-base-path=file://{source}", "--port=0", "--rest-port=0"]
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            loading = process.stdout.readline()
            assert loading.startswith(f"Loading kitchen from {tmp_path}/cache/fashion-serving/"), process.stderr.read()
            while not (line := process.stdout.readline()).startswith("REST"):
                assert line, process.stderr.read()
            url = line.split()[1]
            add(source, 2)
            wait_until(lambda: version_states(url).get(2, {}).get("state") == "AVAILABLE")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        pulled = [line for line in process.stderr.read().splitlines() if line.startswith("Pulled ")]
    base = next((tmp_path / "cache/fashion-serving").glob("*/kitchen"))
    assert pulled == [f"Pulled {base}/{number}: no manifest: only sizes compared" for number in (1, 2)]


def test_a_detached_server_is_followed_too(source: Path, tmp_path: Path) -> None:
    """By the process beside it, which gets the address where nobody else reads it, and ends with the server."""
    arguments = ["--backend=embedded", f"--model-base-path=file://{source}", f"--pull-to={tmp_path}", "--rest-port=0"]
    port = ["--port", str(free_port())]
    started = subprocess.run(
        [FASHION, "serve", *arguments, *port, "--detach"], capture_output=True, text=True, check=False, timeout=120
    )
    try:
        assert started.returncode == 0, started.stderr
        assert f"Loading kitchen from {tmp_path}/kitchen " in started.stdout
        for process in Path("/proc").glob("[0-9]*"):
            if b"serving.launch.follower" in _read(process / "cmdline") and str(tmp_path).encode() in _read(
                process / "cmdline"
            ):
                assert f"{ADDRESS_VARIABLE}=file://{source}".encode() in _read(process / "environ").split(b"\0")
                assert f"file://{source}".encode() not in _read(process / "cmdline")
                break
        else:
            pytest.fail("nobody follows")
    finally:
        subprocess.run([FASHION, "serve", "--stop", *port], capture_output=True, check=False, timeout=60)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_process_that_follows_pulls(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """New versions and labels, until the block ends; without an address nothing."""
    monkeypatch.setattr(remote, "WATCH_SECONDS", 0.05)
    base = tmp_path / "models/kitchen"
    assert detached_puller(str(base), ()) is None
    monkeypatch.setenv(ADDRESS_VARIABLE, f"file://{source}")
    with following_source(detached_puller(str(base), ())):
        wait_until((base / "1").is_dir)
        with labels_writer(source) as writer:
            writer.move({"blue": 1}, action="label")
        add(source, 2)
        wait_until(lambda: (base / "2").is_dir() and (base / "labels.json").is_file())
    monkeypatch.setenv(ADDRESS_VARIABLE, "nowhere://user:secret@host/m")
    with following_source(detached_puller(str(base), ())):
        pass
    assert "Note: nowhere://host/m: Protocol not known: nowhere" in capsys.readouterr().err
    assert json.loads((base / "labels.json").read_text())["labels"] == {"blue": 1}


def test_what_was_pulled_before_is_served_when_the_source_is_away(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a note; the first time it is an error."""
    puller = opened(f"file://{source}", tmp_path / "models")
    assert puller is not None
    pull_first(puller)
    source.rename(tmp_path / "away")
    pull_first(puller)
    expected = f"Note: {source}: there is no such file or directory: what was pulled before is served\n"
    assert capsys.readouterr().err.endswith(expected)
    assert sorted(version_directories(puller.model_base_path)) == [1]
    result = serve(f"--model-base-path=file://{source}")
    assert (result.exit_code, f"{source}: there is no such file or directory" in result.stderr) == (1, True)


def test_only_signed_versions_are_pulled(source: Path, tmp_path: Path) -> None:
    """With --require-signature the source is held to it already."""
    pair = key_pair(tmp_path, "release")
    result = serve(f"--model-base-path=file://{source}", "--require-signature", pair.public)
    assert result.exit_code == 2
    assert "Version 1 is refused: the version is not signed" in result.stderr
    assert not list((tmp_path / "cache").rglob("saved_model.pb"))


def test_arguments_that_cannot_be(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, without a password; what only shows pulls nothing."""
    assert opened(str(source), None) is None
    result = serve(f"--model-base-path={source}", "--pull-to", tmp_path)
    assert (result.exit_code, "--pull-to belongs to an address" in result.stderr) == (2, True)
    result = serve("--model-base-path=nowhere://user:secret@host/m")
    assert (result.exit_code, "nowhere://host/m: Protocol not known" in result.stderr) == (2, True)
    assert "secret" not in result.stderr
    result = serve(f"--model-base-path=file://{source}", "--print-command")
    assert (result.exit_code, "Could not find base path" in result.stderr) == (2, True)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setitem(sys.modules, "delivery.pull", None)
    with pytest.raises(ServeUsageError, match=r"needs the extra \[pull\]"):
        opened("s3://bucket/m", None)


def test_the_server_itself_reads_the_disk_only(tmp_path: Path) -> None:
    """An address in a flag or a file ends its start with the command that helps."""
    text = (
        "s3://host/m is an address, and this server reads this machine's disk only: `fashion pull s3://host/m --watch`"
    )
    with pytest.raises(ServerConfigError) as error:
        model_server_config(Flags(model_base_path="s3://key:secret@host/m"))
    assert str(error.value).startswith(text)
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { name: 'm' base_path: 's3://host/m' } }")
    with pytest.raises(ServerConfigError, match=r"^s3://host/m is an address"):
        model_server_config(Flags(model_config_file=str(config)))


def test_a_place_of_this_machine_is_known(tmp_path: Path) -> None:
    """By a path, and by an address."""
    assert Place.of(f"file://{tmp_path}").is_local
    assert os.fspath(tmp_path) == Place.of(str(tmp_path)).path


def test_where_versions_of_an_address_come_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of the address's own in the user's cache, whatever password it has; or where it is said."""
    address = f"file://{tmp_path}/elsewhere/kitchen"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    places = []
    for variable, cache in ((str(tmp_path / "cache"), "cache"), ("relative", "home/.cache"), ("", "home/.cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
        puller = opened(address, None)
        assert puller is not None
        assert puller.model_base_path.name == "kitchen"
        directory = puller.model_base_path.parent
        assert directory.parent == tmp_path / cache / "fashion-serving"
        assert re.fullmatch("[0-9a-f]{16}", directory.name)
        places.append(directory.name)
    assert len(set(places)) == 1
    assert remote._cache("s3://key:secret@host/m") == remote._cache("s3://host/m") != remote._cache("s3://host/n")
    named = opened(address, tmp_path / "models")
    assert named is not None
    assert named.model_base_path == tmp_path / "models/kitchen"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(LaunchError) as raised:
        opened(address, None)
    assert str(raised.value) == "pulled versions have no place, as you have no home directory: --pull-to names one"
    assert raised.value.exit_code == 1


def test_the_texts_of_what_cannot_be_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with what helps."""
    with pytest.raises(
        ServeUsageError, match=r"^--pull-to belongs to an address: --model-base-path s3://bucket/model$"
    ):
        opened(str(tmp_path), tmp_path)
    monkeypatch.setitem(sys.modules, "delivery.pull", None)
    with pytest.raises(ServeUsageError) as raised:
        opened("s3://bucket/m", tmp_path)
    assert str(raised.value) == (
        "an address for --model-base-path needs the extra [pull] (delivery.pull is not installed): "
        f"{install_command('pull')}"
    )
    pull_first(None)
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    assert detached_puller(str(tmp_path / "m"), ()) is None
