"""What a server's log says about its failure, in TF Serving's words and in the embedded server's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# In front of a message: TensorFlow's time, level and source, absl's, or the embedded server's time.
_PREFIX = re.compile(r"^(\d{4}-\d\d-\d\d [\d:.,]+:? ([IWEF] \S+\] )?|[IWEF]\d{4} [^\]]+\] )")
# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/util/retrier.cc
_LOAD_FAILURE = re.compile(r"Loading servable: \{name: (?P<name>.+) version: (?P<version>\d+)\} failed: (?P<reason>.+)")
# tensorflow_serving/model_servers/main.cc and tensorflow/core/util/command_line_flags.cc; the usage follows.
_WRONG_FLAG = re.compile(r"unknown argument: .+|Couldn't interpret value .+ for flag .+")
_USAGE = "usage: "
# The embedded server says no more than this.
_ADVICE = "; --help lists the flags"


def without_prefix(line: str) -> str:
    """A line's message, without time, level and source."""
    return _PREFIX.sub("", line)


def last_line(lines: Sequence[str]) -> str:
    """The last of a program's lines, which says why it ended, for the message of an error."""
    return without_prefix(lines[-1]) if lines else "it printed nothing"


def wrong_flag(lines: Sequence[str], *, ended: bool) -> str | None:
    """Why a server did not take its flags; None when it did. ended: whether the log is complete.

    TF Serving prints its usage for a flag that it does not know, and goes on to serve.
    """
    if lines and lines[-1].endswith(_ADVICE):
        return lines[-1].removesuffix(_ADVICE)
    usage = next((number for number, line in enumerate(lines) if line.startswith(_USAGE)), None)
    if usage is None:
        return None
    complaint = next((match[0] for line in lines if (match := _WRONG_FLAG.match(without_prefix(line)))), None)
    return last_line(lines[:usage]) if complaint is None and ended else complaint


def is_about_flags(line: str) -> bool:
    """Whether a line begins the answer to a wrong flag: pages of usage, whose reason `wrong_flag` gives."""
    return line.startswith(_USAGE) or _ADVICE in line or _WRONG_FLAG.match(without_prefix(line)) is not None


def load_failures(lines: Iterable[str], model_name: str) -> dict[int, str]:
    """The versions of a model that TF Serving could not load, and why.

    Its status calls such a version LOADING until the last retry, which is minutes later; its log has this line at once.
    """
    matches = (match for line in lines if (match := _LOAD_FAILURE.search(line)))
    return {int(match["version"]): match["reason"] for match in matches if match["name"] == model_name}
