"""`fashion doctor`: one check of a server after the other, each failure with its fix."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from client.calls import calls
from client.commands.drift import MAX_INDEX, MIN_PREDICTIONS, drifts
from client.commands.options import explained, signature_option, with_connection
from client.errors import ClientError, ServerError
from client.pictures.batch import Batch
from client.types import IMAGE_BYTES, TensorInfo, VersionStatus
from fashion_common.errors import EXIT_FAILED
from fashion_common.installation import install_command
from fashion_common.runtimes import EXTRAS, LITERT, TENSORFLOW, installed_runtimes, runtime_version
from fashion_common.served_model import SIGNATURES

if TYPE_CHECKING:
    from client.connection import Connection

_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
_BLACK = Batch("DT_UINT8", bytes(IMAGE_BYTES))
_SLOW_SECONDS = 0.1
_LATENCY_REQUESTS = 20


@dataclass(frozen=True)
class Finding:
    """The result of a check: its name, its `state` (`ok`, `warning` or `failed`), what the check saw, and the fix."""

    check: str
    state: str
    seen: str
    fix: str = ""


@click.command(epilog="Example: fashion doctor --server grpc://127.0.0.1:8500")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each check.")
@signature_option
@with_connection
def doctor(connection: Connection, signature_name: str | None, as_json: bool) -> None:
    """Check a server: reachable, serving this model, names and shapes as expected, answers sane, latency.

    Exit 0 when all is well (warnings included), 1 when a check failed. The last line tells the runtimes that are
    installed here, and which one `fashion serve` takes.
    """
    findings = [*diagnose(connection, signature_name), own_runtimes()]
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.state]}  {finding.check:<10}  {finding.seen}")
            if finding.fix:
                click.echo(f"{'':<9}{'':<12}fix: {finding.fix}")
    if any(finding.state == "failed" for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)


def diagnose(connection: Connection, signature_name: str | None = None) -> Iterator[Finding]:
    """The findings, in the order of the checks; ends at the first failure, since the next checks build on it.

    signature_name: the signature that the images go to.
    """
    for name, (check, fix) in _CHECKS.items():
        try:
            findings = list(check(connection, signature_name))
        except ServerError as error:
            # A server that does not know the model was reached.
            check_name = "model" if error.code == "NOT_FOUND" else name
            seen = f"{error.code}: {error.details}"
            findings = [Finding(check_name, "failed", seen, explained(error, connection).hint or fix)]
        except ClientError as error:
            findings = [Finding(name, "failed", str(error), fix)]
        yield from findings
        if any(finding.state == "failed" for finding in findings):
            return


def own_runtimes() -> Finding:
    """The runtimes that are installed here, and which one the embedded server of `fashion serve` takes."""
    installed = installed_runtimes()
    if not installed:
        install = install_command(EXTRAS[LITERT])
        text = f"none here: `fashion serve` needs a container, tensorflow_model_server or {install}"
        return Finding("runtimes", "ok", text)
    names = " and ".join(f"{runtime} {runtime_version(runtime)}".rstrip() for runtime in installed)
    if TENSORFLOW in installed:
        choice = f"{TENSORFLOW}, which is installed"
    else:
        choice = f"{LITERT}, since TensorFlow is not installed"
    text = f"{names} here: without a container and tensorflow_model_server, `fashion serve` takes {choice}"
    return Finding("runtimes", "ok", text)


def _reachable(connection: Connection, _signature_name: str | None) -> Iterator[Finding]:
    versions = connection.status()
    yield Finding("reachable", "ok", "the server answers")
    name = connection.model.name
    states = ", ".join(map(_state, versions)) or "no versions"
    if any(version.state == "AVAILABLE" for version in versions):
        yield Finding("model", "ok", f"{name}: {states}")
    else:
        messages = "; ".join(version.error_message for version in versions if version.error_message)
        yield Finding("model", "failed", f"{name}: {states}{': ' if messages else ''}{messages}", _REACHABLE_FIX)


def _state(version: VersionStatus) -> str:
    runtime = version.runtime and f" on {version.runtime}"
    return f"version {version.version} is {version.state}{runtime}"


def _signatures(connection: Connection, signature_name: str | None) -> Iterator[Finding]:
    metadata = connection.metadata()
    # Raises when no image fits.
    next(calls(_BLACK, metadata, signature_name))
    missing, other = [], []
    for name, (input_name, dtype, shape) in SIGNATURES.items():
        if name not in metadata.signatures:
            missing.append(name)
        elif metadata.signatures[name].inputs.get(input_name) != TensorInfo(dtype, shape):
            other.append(name)
    differences = [f"without {', '.join(missing)}"] if missing else []
    differences += [f"{', '.join(other)} with other names, dtypes or shapes"] if other else []
    if differences:
        text = f"not an export of ours: {'; '.join(differences)}"
        yield Finding("signatures", "warning", text, "`fashion export` writes all four")
    else:
        yield Finding("signatures", "ok", ", ".join(SIGNATURES))


def _answer(connection: Connection, signature_name: str | None) -> Iterator[Finding]:
    [prediction] = connection.predict(_BLACK, signature_name=signature_name)
    total = sum(prediction.probabilities)
    if abs(total - 1) > 1e-3:  # noqa: PLR2004 - float32 rounding stays far below
        text = f"ten numbers that add up to {total:g}, not probabilities"
        yield Finding("answer", "failed", text, "end the model with a softmax and export it again")
    else:
        yield Finding("answer", "ok", "ten probabilities that add up to 1")
    seconds = []
    for _ in range(_LATENCY_REQUESTS):
        start = time.perf_counter()
        connection.predict(_BLACK, signature_name=signature_name)
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds)[_LATENCY_REQUESTS // 2]
    state, fix = ("warning", "is the server busy, or far away?") if median > _SLOW_SECONDS else ("ok", "")
    yield Finding("latency", state, f"{1000 * median:.1f} ms a request (median of {_LATENCY_REQUESTS})", fix)


def _drift(connection: Connection, _signature_name: str | None) -> Iterator[Finding]:
    try:
        metrics = connection.metrics()
    except ClientError:
        # Over gRPC, or where the metrics are elsewhere.
        return
    for drift in drifts(metrics, connection.model.name):
        count = f"version {drift.version}: {drift.predictions} predictions"
        if drift.predictions < MIN_PREDICTIONS:
            yield Finding("drift", "ok", f"{count}, fewer than {MIN_PREDICTIONS} say nothing")
            continue
        figures = ", ".join(f"{name} {index:.2f}" for name, index in drift.indices.items())
        is_far = max(drift.indices.values()) > MAX_INDEX
        text = f"{count}, population stability index to the test set: {figures}"
        fix = _DRIFT_FIX if is_far else ""
        yield Finding("drift", "warning" if is_far else "ok", text, fix)


_DRIFT_FIX = "look at recent pictures (`fashion explain`): are they other garments, or prepared in another way?"
_REACHABLE_FIX = "start it with `fashion serve`, or name the server with --server and the model with --model-name"
# Name -> the check, and the fix for an error that it raises.
_CHECKS: dict[str, tuple[Callable[[Connection, str | None], Iterator[Finding]], str]] = {
    "reachable": (_reachable, _REACHABLE_FIX),
    "signatures": (_signatures, "serve an export of `fashion export`, or name another signature with --signature"),
    # Before the answers to this command's own pictures.
    "drift": (_drift, "look at the server's metrics"),
    "answer": (_answer, "look at the server's log; `fashion export --verify PATH` checks the version on its disk"),
}
