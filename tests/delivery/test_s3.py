"""`fashion pull` from a real server of S3, through connections that are cut, killed at any step, and watching."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.console import FASHION
from tests.support.s3 import CREDENTIALS, bucket_of
from tests.support.sources import local_files, version_files

SOURCE = "s3://bucket/models/fashion_mnist"
# Instead of a kill from outside, which would hit any step: it kills itself before or after the call of a function.
KILLED = """
import os, signal, sys
from importlib import import_module
module, function, call, after = sys.argv[1], sys.argv[2].split("."), int(sys.argv[3]), sys.argv[4] == "after"
owner = import_module(module)
for name in function[:-1]:
    owner = getattr(owner, name)
real, calls = getattr(owner, function[-1]), 0
def replaced(*arguments, **keywords):
    global calls
    calls += 1
    if calls == call and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **keywords)
    if calls == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, function[-1], replaced)
import delivery.fetch
delivery.fetch._PIECE_BYTES = 1000
from client.cli import main
sys.argv[1:] = sys.argv[5:]
main()
"""


def put(s3_environment: dict[str, str], number: int, files: dict[str, bytes]) -> None:
    """Has the version in the bucket."""
    bucket = bucket_of(s3_environment)
    for name, content in files.items():
        bucket.put_object(Key=f"models/fashion_mnist/{number}/{name}", Body=content)


def pull(s3_environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """`fashion pull`, to its end."""
    command = [FASHION, "pull", *map(str, arguments)]
    return subprocess.run(command, env=s3_environment, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def cutting_proxy(port: int, after: int) -> Iterator[int]:
    """The port of a proxy that cuts every connection once so many bytes of an answer have passed it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def relay(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
            threading.Thread(target=forward, args=(client, server), daemon=True).start()
            passed = 0
            while passed < after and (data := server.recv(min(65536, after - passed))):
                client.sendall(data)
                passed += len(data)
            client.shutdown(socket.SHUT_RDWR)

    def forward(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=relay, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def test_a_version_comes_from_s3(s3_environment: dict[str, str], tmp_path: Path) -> None:
    """With credentials of the environment; those that are wrong, or missing, are told without them."""
    files = version_files()
    # Consoles make folders of empty objects.
    put(s3_environment, 3, files | {"": b"", "variables/": b""})
    result = pull(s3_environment, SOURCE, "--to", tmp_path)
    path = tmp_path / "fashion_mnist/3"
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: SHA-256 as in its manifest\n", "")
    assert local_files(path) == files
    refused = pull(s3_environment | {"AWS_ENDPOINT_URL": "http://user:secret@127.0.0.1:1"}, SOURCE, "--to", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: {SOURCE} cannot be read: ")
    assert refused.stderr.count("\n") == 1
    assert not any(secret in refused.stderr for secret in (*CREDENTIALS.values(), "secret"))


def test_cut_connections(s3_environment: dict[str, str], s3: int, tmp_path: Path) -> None:
    """A proxy that cuts after 3 MB lets a version of 20 MB come, piece by piece."""
    files = version_files(size=20_000_000)
    put(s3_environment, 1, files)
    program = "import delivery.fetch, sys; delivery.fetch._PIECE_BYTES = 1_000_000; from client.cli import main; main()"
    with cutting_proxy(s3, 3_000_000) as port:
        command = [sys.executable, "-c", program, "pull", SOURCE, "--to", str(tmp_path)]
        variables = s3_environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert local_files(tmp_path / "fashion_mnist/1") == files


@pytest.mark.parametrize(
    "step",
    [
        ("delivery.places", "Place.piece", 3, "after"),
        ("delivery.pull", "fetch", 1, "after"),
        ("delivery.base_path", "sync", 2, "before"),
        ("pathlib", "Path.rename", 1, "before"),
        ("pathlib", "Path.rename", 1, "after"),
        ("shutil", "rmtree", 1, "before"),
    ],
    ids=lambda step: f"{step[3]} {step[1]}",
)
def test_killed_at_any_step(tmp_path: Path, step: tuple[str, str, int, str]) -> None:
    """The version is whole or not there; the same command brings it to its end, and leaves nothing else."""
    source = tmp_path / "source/fashion_mnist"
    files = version_files()
    for name, content in files.items():
        (source / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (source / "1" / name).write_bytes(content)
    base = tmp_path / "models/fashion_mnist"
    arguments = ["pull", f"file://{source}", "--to", str(base.parent)]
    command = [sys.executable, "-c", KILLED, *map(str, step), *arguments]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (base / "1").exists() or local_files(base / "1") == files
    assert subprocess.run([FASHION, *arguments], capture_output=True, check=False).returncode == 0
    assert local_files(base / "1") == files
    assert [path.name for path in base.iterdir()] == ["1"]


def test_watching_until_sigterm(s3_environment: dict[str, str], tmp_path: Path) -> None:
    """A line for each new version; SIGTERM ends it with 0, while it waits."""
    put(s3_environment, 1, version_files())
    command = [FASHION, "pull", SOURCE, "--to", str(tmp_path), "--watch", "--interval=0.1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=s3_environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline()]
            put(s3_environment, 2, version_files())
            lines.append(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    base = tmp_path / "fashion_mnist"
    assert lines == [f"{base}/{number}: SHA-256 as in its manifest\n" for number in (1, 2)]
    # What was seen while it came.
    errors = "".join(line for line in errors.splitlines() if not line.startswith("Version 2 is refused: it "))
    assert (process.returncode, output, errors) == (0, "", "")
