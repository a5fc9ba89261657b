"""`fashion serve`: what it checks, prints and ends with."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from click.testing import CliRunner

from client import cli
from fashion_common.labels import labels_writer, read_labels
from fashion_common.layout import version_directories
from tests.support.console import FASHION, fashion
from tests.support.live import KITCHEN, signal_another_thread, wait_until


class Secure(NamedTuple):
    """What `fashion serve --detach` printed, where it was called, and where it keeps what belongs to the server.

    moved: the labels that had moved when it had started.
    """

    stdout: str
    directory: Path
    state: Path
    moved: Mapping[str, int]


def test_it_says_where_it_listens_and_stops_cleanly(tmp_path: Path) -> None:
    """Under the base path's name: gRPC and REST URLs and a command to try; SIGTERM ends it and its server with 0."""
    shutil.copytree(KITCHEN / "1", tmp_path / "kitchen/1")
    model = ("--model-base-path", str(tmp_path / "kitchen"))
    command = [FASHION, "serve", "--backend=embedded", *model, "--port=0", "--rest-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    assert rest == "Stopped.\n"
    assert re.fullmatch(
        rf"Loading kitchen from {tmp_path}/kitchen \(canary=1, stable=1\) \.\.\.\n"
        r"Waiting requests are merged into one run \(serving/config/batching\.config\)\n"
        r"gRPC  grpc://(127\.0\.0\.1:\d+)\n"
        r"REST  http://127\.0\.0\.1:\d+/v1/models/kitchen\n"
        r"Try   fashion call --server grpc://\1 --model-name kitchen\n"
        r"Stop  Ctrl-C\n",
        "".join(lines),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal to one thread of another process")
def test_a_signal_that_another_thread_takes_ends_it_too(tmp_path: Path) -> None:
    """Within a second or so: only the main thread runs its handler, and nothing wakes it up."""
    shutil.copytree(KITCHEN / "1", tmp_path / "kitchen/1")
    model = ("--model-base-path", str(tmp_path / "kitchen"))
    command = [FASHION, "serve", "--backend=embedded", *model, "--port=0", "--rest-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("Stop  Ctrl-C"):
            pass
        signal_another_thread(process, signal.SIGTERM)
        assert process.stdout.read() == "Stopped.\n"
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-base-path", "none"], "Could not find base path none: create it, or correct"),
        (["--model-base-path", "empty"], "No versions of empty under empty: expected numeric folders such as"),
        (["--model-base-path", str(KITCHEN), "--port=9", "--rest-port=9"], "--port and --rest-port are both 9"),
    ],
    ids=["missing", "empty", "one port"],
)
def test_it_checks_before_it_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and the fix in one line."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()

    result = CliRunner().invoke(cli.fashion, ["serve", *arguments])

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_server_that_ends_by_itself_is_a_failure() -> None:
    """Exit code 1, with the server's last words."""
    model = ("--model-base-path", KITCHEN, "--port=0", "--rest-port=0")
    process = fashion("serve", "--backend=embedded", *model, "--", "--grpc_channel_arguments=x")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(
        "Error: the server ended before the model was AVAILABLE: Error: --grpc_channel_arguments: x"
    )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A detached server with TLS, on a copy of the kitchen's first version, after its start and its end."""
    directory = tmp_path_factory.mktemp("secure")
    shutil.copytree(KITCHEN / "1", directory / "kitchen/1")
    authority = trustme.CA()
    certificate = authority.issue_cert("fashion.example.org")
    authority.cert_pem.write_to_path(directory / "root.pem")
    key, chain = certificate.private_key_pem.bytes().decode(), certificate.cert_chain_pems[0].bytes().decode()
    (directory / "tls.config").write_text(f"server_key: {json.dumps(key)} server_cert: {json.dumps(chain)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(directory / "state"))
        model = ("--model-base-path=kitchen", "--model-name=kitchen", "--port=0", "--rest-port=0")
        started = fashion(
            "serve", "--backend=embedded", "--detach", *model, "--", "--ssl_config_file=tls.config", cwd=directory
        )
        port = re.search(r":(\d+)\n", started.stdout)
        assert port, started.stderr
        state = directory / "state/fashion-serving" / port[1]
        yield Secure(started.stdout, directory, state, read_labels(directory / "kitchen").moved)
        assert fashion("serve", "--stop", "--port", port[1]).returncode == 0
        assert not (state / "config").exists()


def test_the_try_line_of_a_server_with_tls_works(secure: Secure) -> None:
    """grpcs, the authority and the name in the certificate; it says what the model takes."""
    line = re.search(r"^Try   fashion (call .*)$", secure.stdout, re.MULTILINE)
    assert line
    done = fashion(*shlex.split(line[1]), cwd=secure.directory)
    assert done.returncode == 0, done.stderr
    newest = max(version_directories(secure.directory / "kitchen"))
    assert done.stdout.startswith(f"kitchen, version {newest}\n")
    assert re.search(r"^gRPC  grpcs://127\.0\.0\.1:\d+$", secure.stdout, re.MULTILINE)


def test_what_a_server_serves_as_stable_stays_stable(secure: Secure) -> None:
    """Written down at the start, so that neither a third version nor `fashion export --keep` takes it away."""
    assert secure.moved == {"stable": 1}


def test_the_log_of_a_detached_server_says_what_comes_and_goes(secure: Secure) -> None:
    """Loads, reloads, labels that move and unloads have a line each, with the time."""
    log = secure.state / "server.log"

    shutil.copytree(KITCHEN / "2", secure.directory / ".2")
    (secure.directory / ".2").rename(secure.directory / "kitchen/2")
    wait_until(lambda: log.read_text().count("Successfully loaded") == 2)
    wait_until(lambda: "canary=2" in log.read_text())
    with labels_writer(secure.directory / "kitchen") as writer:
        writer.move({"stable": 2}, action="label")
    wait_until(lambda: "Done unloading" in log.read_text())

    times, lines = zip(
        *(line.split(" ", 2)[1:] for line in log.read_text().splitlines() if line[:2] == "20"), strict=True
    )
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d,\d{3}", time) for time in times)
    served = [line for line in lines if " is served by " in line]
    assert served == [
        f"{secure.directory}/kitchen/{version} is served by tensorflow: the version has no model.tflite"
        for version in (1, 2)
    ]
    reloaded = f"Reloaded the configuration: kitchen from {secure.directory}/kitchen"
    # It asks for version 2 first, moves `canary` when that is there, and `stable` when it was told to.
    assert [line for line in lines if line not in served] == [
        "Successfully loaded servable version {name: kitchen version: 1}",
        f"{reloaded} (canary=1, stable=1)",
        "Successfully loaded servable version {name: kitchen version: 2}",
        f"{reloaded} (canary=2, stable=1)",
        "Label canary of kitchen moved from 1 to 2",
        f"{reloaded} (canary=2, stable=2)",
        "Label stable of kitchen moved from 1 to 2",
        "Done unloading servable version {name: kitchen version: 1}",
    ]
