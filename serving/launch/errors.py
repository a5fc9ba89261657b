"""What `fashion serve` fails with; the exit code is 2 where another argument or an installation helps.

LaunchError
├── ServerEndedError
└── ServeUsageError             exit code 2
    └── BackendUnavailableError
"""

from __future__ import annotations

from collections.abc import Sequence

from fashion_common.errors import EXIT_USAGE, FashionError


class LaunchError(FashionError):
    """A server cannot be started or stopped."""


class ServerEndedError(LaunchError):
    """The server ended by itself, or the model does not become AVAILABLE."""


class ServeUsageError(LaunchError):
    """The arguments name something that cannot be served."""

    exit_code = EXIT_USAGE


class BackendUnavailableError(ServeUsageError):
    """A backend cannot run on this machine; `--backend auto` goes on to the next."""


def last_line(lines: Sequence[str]) -> str:
    """The last of a program's lines, which says why it ended, for the message of an error."""
    return lines[-1] if lines else "it printed nothing"
