"""The errors of training and export; each text names the value, the rule and the fix.

TrainingError                    exit code 1
├── TrainingUsageError           exit code 2
├── SelfTestError
└── DamagedVersionError

What TensorFlow and the data sets' tools raise becomes one of these where the cause is known, and stays their cause.
"""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class TrainingError(FashionError):
    """Training or export failed."""


class TrainingUsageError(TrainingError):
    """Training or export was asked for something that cannot be: a bad option, missing data, a wrong path."""

    exit_code = EXIT_USAGE


class SelfTestError(TrainingError):
    """A version does not answer as the model that it was made from."""


class DamagedVersionError(TrainingError):
    """A version's files are not those that were exported."""
