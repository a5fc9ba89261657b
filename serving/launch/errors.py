"""What `fashion serve` fails with; the exit code is 2 where another argument or an installation helps.

LaunchError
├── ServerEndedError
└── ServeUsageError             exit code 2
    └── BackendUnavailableError
"""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class LaunchError(FashionError):
    """A server cannot be started or stopped."""


class ServerEndedError(LaunchError):
    """The server ended by itself, or the model does not become AVAILABLE.

    Its text has the server's own reason.
    """


class ServeUsageError(LaunchError):
    """The arguments name something that cannot be served."""

    exit_code = EXIT_USAGE


class BackendUnavailableError(ServeUsageError):
    """A backend cannot run on this machine; `--backend auto` goes on to the next."""
