"""The errors of scoring.

FashionError
└── ScoringError                exit 1: a job ended before it was done
    └── ScoringUsageError       exit 2: an input, an output or a setting that cannot be
"""

from __future__ import annotations

from fashion_common.errors import EXIT_USAGE, FashionError


class ScoringError(FashionError):
    """A job that ended before it was done; what it has done stays."""


class ScoringUsageError(ScoringError):
    """An input that is not there, an output of another job, a setting that cannot be."""

    exit_code = EXIT_USAGE
