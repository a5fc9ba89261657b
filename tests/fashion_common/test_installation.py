"""A module is run as a program whatever lies in the working directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fashion_common.installation import module_command

_MODULE = "import json, random, sys; print(json.dumps([__name__, sys.argv[1:], random.__file__, sys.path]))"


@pytest.mark.parametrize("safe_path", ["", "1"], ids=["as ever", "PYTHONSAFEPATH"])
def test_the_working_directory_is_not_on_the_path(safe_path: str, tmp_path: Path) -> None:
    """Its `random.py` and its module of the same name are not run; PYTHONPATH and the arguments are the user's own."""
    library, directory = tmp_path / "library", tmp_path / "directory"
    for path in (library, directory):
        path.mkdir()
    (library / "spoken.py").write_text(_MODULE)
    for name in ("spoken.py", "random.py", "runpy.py"):
        (directory / name).write_text("raise SystemExit('the file of the working directory was run')")
    environment = {**os.environ, "PYTHONPATH": str(library), "PYTHONSAFEPATH": safe_path}

    done = subprocess.run(
        [*module_command("spoken"), "--one", "two"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    name, arguments, random_file, path = json.loads(done.stdout)
    assert (name, arguments) == ("__main__", ["--one", "two"])
    assert Path(random_file).parent == Path(os.__file__).parent
    assert str(library) in path
    assert not {"", str(directory)} & set(path)
