"""`fashion serve --require-signature`: a server is told of no version that no trusted key signed."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.cli import fashion
from fashion_common.running import version_states
from serving.launch.backends import ServeOptions, embedded
from serving.launch.errors import ServeUsageError
from serving.launch.follow import follow, running_server
from serving.launch.offer import Offer
from serving.launch.prepare import config_files, with_config
from tests.serving.launch.test_follow import configuration
from tests.support.console import FASHION
from tests.support.keys import KeyPair, key_pair, write_version
from tests.support.live import KITCHEN, wait_until


def status_of(url: str) -> dict[int, str]:
    """The state of each version."""
    return {version: status["state"] for version, status in version_states(url).items()}


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    """The trusted pair."""
    return key_pair(tmp_path, "release")


def test_a_running_server_is_told_of_signed_versions_only(
    tmp_path: Path, keys: KeyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the backend; each refusal is said once, and a signature that comes later is seen."""
    base = tmp_path / "models"
    keys.sign(write_version(base / "1"))
    options = ServeOptions(backend="binary", model_base_path=base, rest_port=1, public_keys=[keys.public])
    offer = Offer(options.public_keys)
    options = with_config(options, config_files(options, {"stable": 1}, [1]), tmp_path / "config")
    server = running_server(options)
    write_version(base / "2")
    for _ in range(3):
        follow(server, offer)
    assert configuration(options)[1] == [1]
    note = "Note: version 2 is not served: the version is not signed: it has no model.sig\n"
    assert capsys.readouterr().err == note
    keys.sign(base / "2")
    follow(server, Offer(server.public_keys))
    follow(server, offer)
    assert (configuration(options)[1], capsys.readouterr().err) == ([1, 2], "")
    (base / "2" / "saved_model.pb").write_bytes(b"other")
    follow(server, offer)
    assert configuration(options)[1] == [1]
    assert "version 2 is not served: saved_model.pb is not the file that was signed" in capsys.readouterr().err
    (base / "2" / "link").symlink_to("saved_model.pb")
    follow(server, offer)
    assert "version 2 is not served: link is a link" in capsys.readouterr().err


def test_without_keys_everything_is_offered(tmp_path: Path) -> None:
    """And files are not read."""
    assert Offer().versions({1: tmp_path / "nowhere"}) == {1: tmp_path / "nowhere"}


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    """The error says which option it is of."""
    with pytest.raises(ServeUsageError, match=r"--require-signature: the public key .*none\.pub cannot be read"):
        Offer([tmp_path / "none.pub"])


def test_the_embedded_server_has_the_keys_too(tmp_path: Path) -> None:
    """So that what it loads is what was verified; the same flag after -- is refused."""
    command = embedded(ServeOptions(public_keys=[Path("/a.pub"), Path("/b.pub")]))
    assert "--require_signature=/a.pub,/b.pub" in command
    assert not any("require_signature" in word for word in embedded(ServeOptions()))
    shutil.copytree(KITCHEN / "1", tmp_path / "m/1")
    arguments = ["serve", "--model-base-path", str(tmp_path / "m"), "--", "--require_signature=x"]
    result = CliRunner().invoke(fashion, arguments)
    assert (result.exit_code, "contradicts --require-signature" in result.stderr) == (2, True)


def test_only_the_signed_version_is_served(tmp_path: Path, keys: KeyPair) -> None:
    """The newest one that is signed, though newer ones are there; where none is, the command says so."""
    base = tmp_path / "kitchen"
    for number in (1, 2, 3):
        shutil.copytree(KITCHEN / "1", base / str(number))
    arguments = ["serve", "--backend=embedded", f"--model-base-path={base}", "--require-signature", str(keys.public)]
    result = CliRunner().invoke(fashion, arguments)
    assert (result.exit_code, f"no version under {base} is signed with {keys.public}" in result.stderr) == (2, True)
    keys.sign(base / "1")
    command = [FASHION, *arguments, "--port=0", "--rest-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "(canary=1, stable=1)" in process.stdout.readline()
            while not (line := process.stdout.readline()).startswith("REST"):
                assert line, process.stderr.read()
            url = line.split()[1]
            assert status_of(url) == {1: "AVAILABLE"}
            keys.sign(base / "3")
            wait_until(lambda: status_of(url).get(3) == "AVAILABLE")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        lines = process.stderr.read().splitlines()
    notes = [line for line in lines if line.startswith("Note: version")]
    reason = "the version is not signed: it has no model.sig"
    assert notes == [f"Note: version {number} is not served: {reason}" for number in (2, 3)]
