"""How this installation is run and extended, and where it keeps what its detached servers need."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Both -m and -c put the working directory first on the path, where a user's `random.py` takes the place of the standard
# library's. -P is Python 3.11's, and -I would also hide PYTHONPATH and the user's own site-packages:
# https://docs.python.org/3/using/cmdline.html
# With -c that entry is the empty text, and only `sys`, which is built in, is imported before it is gone.
_PROGRAM = (
    "import sys; "
    "sys.path = [entry for entry in sys.path if entry]; "
    "import runpy; "
    'runpy.run_module("{module}", run_name="__main__", alter_sys=True)'
)

# What a server is configured with: a folder in its directory below state_directory(), and the file that names versions.
CONFIG_FOLDER = "config"
MODELS_FILE = "models.config"
# In that folder, its owner's alone: the token by which `fashion` asks the server for its state.
TOKEN_FILE = "own.token"  # noqa: S105 - a name


def module_command(module: str) -> list[str]:
    """What `python -m MODULE` does for an installed module, without a look into the working directory.

    module: its dotted name. The program's arguments are appended to the command.
    The environment is not touched: PYTHONPATH, the user's site-packages and a virtual environment count as ever.
    """
    return [sys.executable, "-c", _PROGRAM.format(module=module)]


def install_command(extra: str) -> str:
    """What installs an extra: from the checkout where we run from one, since no index need have the package."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e '{checkout}[{extra}]'"
    return f"pip install 'fashion-mnist-serving[{extra}]'"


def state_directory() -> Path:
    """Where `fashion serve --detach` keeps a directory for each gRPC port, with the server's configuration in it.

    Under XDG_STATE_HOME, unless that is a relative path: https://specifications.freedesktop.org/basedir-spec/latest/.
    Raises RuntimeError without that and without a home.
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "fashion-serving"
