"""How a module of ours is run as a program: with our code and the libraries, whatever lies in the working directory.

`fashion serve` starts the embedded server so, the server its workers, and `fashion export` its self-test.
"""

from __future__ import annotations

import sys

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


def module_command(module: str) -> list[str]:
    """What `python -m MODULE` does for an installed module, without a look into the working directory.

    module: its dotted name. The program's arguments are appended to the command.
    The environment is not touched: PYTHONPATH, the user's site-packages and a virtual environment count as ever.
    """
    return [sys.executable, "-c", _PROGRAM.format(module=module)]
