"""A module is run as a program whatever lies in the working directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fashion_common import installation
from fashion_common.installation import install_command, module_command, state_directory

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


def test_an_extra_is_installed_from_the_checkout_or_from_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the checkout where we run from one."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(tmp_path)
    assert install_command("train") == f"pip install -e '{root}[train]'"
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "site-packages" / "fashion_common" / "x.py"))
    assert install_command("train") == "pip install 'fashion-mnist-serving[train]'"


@pytest.mark.parametrize("variable", [None, "", "relative/state"])
def test_detached_servers_keep_their_state_in_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """Unless XDG_STATE_HOME names another place, which is absolute."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    if variable is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", variable)
    assert state_directory() == tmp_path / ".local" / "state" / "fashion-serving"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert state_directory() == tmp_path / "other" / "fashion-serving"
