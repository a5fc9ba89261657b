"""The errors of training and export; each text names the value, the rule and the fix."""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class TrainingError(FashionError):
    """Training or export failed."""


class TrainingUsageError(TrainingError):
    """Training or export was asked for something that cannot be: a bad option, missing data, a wrong path."""

    exit_code = EXIT_USAGE
