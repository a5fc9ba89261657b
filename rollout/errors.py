"""What moving a label fails with.

RolloutError                 exit code 1
└── RolloutUsageError        exit code 2
"""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class RolloutError(FashionError):
    """A label was not moved, or was put back."""


class RolloutUsageError(RolloutError):
    """The arguments name a label or a version that cannot be."""

    exit_code = EXIT_USAGE
