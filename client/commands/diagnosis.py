"""Is this server fit to be asked? One check after the other, each failure with its fix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.connection import Connection
from client.errors import ClientError
from client.pictures.batch import DEFAULT_SIGNATURE_NAME, Batch, calls
from client.types import IMAGE_BYTES, Metadata

_BLACK = Batch("DT_UINT8", bytes(IMAGE_BYTES))
_SLOW_SECONDS = 0.1
_TIMED = 20
# What design and export promise (docs/architecture.md): signature -> (input, dtype, shape).
EXPECTED = {
    "serving_default": ("images", "DT_UINT8", (-1, 28, 28)),
    "encoded_images": ("image_bytes", "DT_STRING", (-1,)),
    "float_images": ("images", "DT_FLOAT", (-1, 28, 28)),
    "classify": ("inputs", "DT_STRING", (-1,)),
}


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well (`ok`, `warning` or `failed`), what was seen, and the fix."""

    check: str
    state: str
    seen: str
    fix: str = ""


def diagnose(connection: Connection) -> Iterator[Finding]:
    """The findings, in the order of the checks; ends at the first failure, since the next checks build on it."""
    for check in (_reachable, _signatures, _answers):
        try:
            findings = list(check(connection))
        except ClientError as error:
            yield Finding(_TITLES[check], "failed", str(error), _FIXES[check])
            return
        yield from findings
        if any(finding.state == "failed" for finding in findings):
            return


def _reachable(connection: Connection) -> Iterator[Finding]:
    versions = connection.status()
    available = [version.version for version in versions if version.state == "AVAILABLE"]
    yield Finding("reachable", "ok", "the server answers")
    seen = ", ".join(f"version {version.version} is {version.state}" for version in versions) or "no versions"
    if available:
        yield Finding("model", "ok", f"{connection.model.name}: {seen}")
    else:
        trouble = "; ".join(version.error_message for version in versions if version.error_message)
        yield Finding(
            "model", "failed", f"{connection.model.name}: {seen}{': ' if trouble else ''}{trouble}", _FIXES[_reachable]
        )


def _signatures(connection: Connection) -> Iterator[Finding]:
    metadata = connection.metadata()
    # Raises when no image fits; a server without our default signature is judged by the first that it has.
    default = DEFAULT_SIGNATURE_NAME in metadata.signatures
    next(calls(_BLACK, metadata, None if default else next(iter(metadata.signatures), None)))
    missing = [name for name in EXPECTED if name not in metadata.signatures]
    other = [name for name in EXPECTED if name in metadata.signatures and not _as_expected(metadata, name)]
    if missing or other:
        told = "; ".join(
            part
            for part in (
                f"without {', '.join(missing)}" if missing else "",
                f"{', '.join(other)} with other names, dtypes or shapes" if other else "",
            )
            if part
        )
        yield Finding("signatures", "warning", f"not an export of ours: {told}", "`fashion export` writes all four")
    else:
        yield Finding("signatures", "ok", ", ".join(EXPECTED))


def _answers(connection: Connection) -> Iterator[Finding]:
    [prediction] = connection.predict_batch(_BLACK)
    total = sum(prediction.probabilities)
    if abs(total - 1) > 1e-3:  # noqa: PLR2004 - float32 rounding stays far below
        yield Finding(
            "answer",
            "failed",
            f"ten numbers that add up to {total:g}, not probabilities",
            "end the model with a softmax and export it again",
        )
    else:
        yield Finding("answer", "ok", "ten probabilities that add up to 1")
    seconds = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        connection.predict_batch(_BLACK)
        seconds.append(time.perf_counter() - began)
    median = sorted(seconds)[_TIMED // 2]
    state, fix = ("warning", "is the server busy, or far away?") if median > _SLOW_SECONDS else ("ok", "")
    yield Finding("latency", state, f"{1000 * median:.1f} ms a request (median of {_TIMED})", fix)


def _as_expected(metadata: Metadata, name: str) -> bool:
    input_name, dtype, shape = EXPECTED[name]
    info = metadata.signatures[name].inputs.get(input_name)
    return info is not None and (info.dtype, info.shape) == (dtype, shape)


_TITLES: dict[Callable[[Connection], Iterator[Finding]], str] = {
    _reachable: "reachable",
    _signatures: "signatures",
    _answers: "answer",
}
_FIXES: dict[Callable[[Connection], Iterator[Finding]], str] = {
    _reachable: "start it with `fashion serve`, or name the server with --server and the model with --model-name",
    _signatures: "serve an export of `fashion export`, or name another signature with --signature",
    _answers: "look at the server's log; `fashion export --verify PATH` checks the version on its disk",
}
