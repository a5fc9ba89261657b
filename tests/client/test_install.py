"""The built wheel in a new environment: it works, without TensorFlow, and it is light."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 100 * 2**20


def _size(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())


def test_the_wheel_installs_light_and_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dependencies from the lock file, the wheel on top: under 100 MiB (bytecode aside), and `fashion` answers."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    before = _size(environment)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    online = subprocess.run(
        [*pip, "--require-hashes", "-r", str(ROOT / "requirements" / "client.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    if online.returncode:
        pytest.skip(f"no package index to install from: {online.stderr.strip().splitlines()[-1]}")
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    packages = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in packages if "." not in name} == {"training", "serving", "client", "fashion_common"}
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    size = _size(environment) - before
    with capsys.disabled():
        print(f"\nthe client installs {size / 2**20:.0f} MiB without bytecode")
    assert size < MOST_BYTES
    quiet = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    status = subprocess.run(
        [environment / "bin" / "fashion", "status", "--server", "grpc://127.0.0.1:1"],
        cwd=tmp_path, env=quiet, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert status.returncode == 1
    assert status.stderr.startswith("Error: UNAVAILABLE: ")
    (tmp_path / "models" / "fashion_mnist" / "1").mkdir(parents=True)
    (tmp_path / "models" / "fashion_mnist" / "1" / "saved_model.pb").touch()
    for command in ("train", "serve"):
        process = subprocess.run(
            [environment / "bin" / "fashion", command],
            cwd=tmp_path,
            env=quiet,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "pip install 'fashion-mnist-serving[" in process.stderr, (command, process.stderr)
    missing = subprocess.run(
        [environment / "bin" / "python", "-c", "import tensorflow"], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in missing.stderr
