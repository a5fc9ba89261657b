"""New environments with the built wheel in them, as `pip` makes them of a lock file."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Environment(NamedTuple):
    """An environment's programs, its variables, and how many bytes it has beyond an empty one, without bytecode."""

    programs: Path
    variables: dict[str, str]
    size: int

    def run(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """One of its programs, run to its end."""
        command = [str(self.programs / program), *arguments]
        return subprocess.run(command, cwd=cwd, env=self.variables, capture_output=True, text=True, check=False)


def install(directory: Path, lock: str) -> Environment:
    """Dependencies from `requirements/LOCK.txt`, the wheel on top. Skips the test where there is no package index."""
    environment = directory / "venv"
    venv.create(environment, with_pip=True)
    before = _size(environment)
    programs = environment / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    online = subprocess.run(
        [*pip, "--require-hashes", "-r", str(ROOT / "requirements" / f"{lock}.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    if online.returncode:
        pytest.skip(f"no package index to install from: {online.stderr.strip().splitlines()[-1]}")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = directory.glob("*.whl")
    packages = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in packages if "." not in name} == {
        "delivery",
        "rollout",
        "scoring",
        "training",
        "serving",
        "client",
        "fashion_common",
    }
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return Environment(programs, variables, _size(environment) - before)


def _size(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())
