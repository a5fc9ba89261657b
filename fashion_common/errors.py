"""The root of the three error families, and the exit codes."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class FashionError(Exception):
    """An error whose text is for the user: one line that names the value, the rule and the fix.

    `exit_code` is what the command exits with: 1 when it failed, 2 when it was asked wrongly.
    """

    exit_code = EXIT_FAILED
