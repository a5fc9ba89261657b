"""The root of every package's errors, the exit codes, and the errors of what all packages share.

FashionError
├── BasePathError                 exit code 2: a model base path without versions
│   ├── UnreadableBasePathError   nobody knows whether there are any
│   └── MisplacedModelError       a SavedModel where its versions should be
├── LabelsError                   the labels of a model base path cannot be read or moved
├── TokenFileError                exit code 2: a file of tokens that cannot be followed
└── EvidenceError                 exit code 2: a record that is no evidence of a comparison

Each package draws its own family below FashionError: `training.errors`, `serving.errors`, `serving.launch.errors` and
`client.errors`. An error is raised where the fact is known, and becomes one line on stderr and an exit code in one
place: `client.cli`, or `serving.embedded.__main__` in the server's own process.
"""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class FashionError(Exception):
    """An error whose text is for the user: one line that names the value, the rule and the fix.

    `exit_code` is what the command exits with: 1 when it failed, 2 when it was asked wrongly.
    """

    exit_code = EXIT_FAILED


class BasePathError(FashionError):
    """A model base path that is missing, cannot be read, or holds no version."""

    exit_code = EXIT_USAGE


class UnreadableBasePathError(BasePathError):
    """A model base path of which nobody knows what it holds: there may be versions."""


class MisplacedModelError(BasePathError):
    """A model base path that holds a SavedModel itself, where numbered versions are expected."""


class LabelsError(FashionError):
    """The labels of a model base path cannot be read or moved."""


class TokenFileError(FashionError):
    """A line of a token file that is none; the text repeats no token."""

    exit_code = EXIT_USAGE


class EvidenceError(FashionError):
    """A record that is no evidence; the text says why."""

    exit_code = EXIT_USAGE
