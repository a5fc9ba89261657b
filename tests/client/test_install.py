"""The built wheel in a new environment: it works, without TensorFlow, and it is light."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.environments import install

MOST_BYTES = 100 * 2**20


def test_the_wheel_installs_light_and_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dependencies from the lock file, the wheel on top: under 100 MiB (bytecode aside), and `fashion` answers."""
    environment = install(tmp_path, "client")
    with capsys.disabled():
        print(f"\nthe client installs {environment.size / 2**20:.0f} MiB without bytecode")
    assert environment.size < MOST_BYTES
    status = environment.run("fashion", "status", "--server", "grpc://127.0.0.1:1", cwd=tmp_path)
    assert status.returncode == 1
    assert status.stderr.startswith("Error: UNAVAILABLE: ")
    (tmp_path / "models" / "fashion_mnist" / "1").mkdir(parents=True)
    (tmp_path / "models" / "fashion_mnist" / "1" / "saved_model.pb").touch()
    for command in ("train", "serve"):
        process = environment.run("fashion", command, cwd=tmp_path)
        assert "pip install 'fashion-mnist-serving[" in process.stderr, (command, process.stderr)
    missing = environment.run("python", "-c", "import tensorflow", cwd=tmp_path)
    assert "ModuleNotFoundError" in missing.stderr
