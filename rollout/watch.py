"""A promoted version is watched for a while: what its servers count of errors and latency, beside what was before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fashion_common.prometheus import samples
from fashion_common.running import RunningServer, running_servers

_SECONDS = 1.0
# Fewer requests say nothing.
_MIN_REQUESTS = 20
# So much more of the requests may fail than did before.
_MAX_ERROR_RISE = 0.01
_MICROSECONDS = 1e6
# Refused before a version saw them: strangers are not to decide which one is stable.
_STRANGERS = ("UNAUTHENTICATED", "PERMISSION_DENIED")


class Counts(NamedTuple):
    """What a server counts of a model's requests: all of them, those with an error; of those timed, their seconds."""

    requests: float = 0.0
    errors: float = 0.0
    timed: float = 0.0
    seconds: float = 0.0

    def since(self, before: Counts) -> Counts:
        """What was counted since then."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def error_share(self) -> float:
        """Of all requests; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def mean_ms(self) -> float:
        """Of the timed requests; 0 without any."""
        return 1000 * self.seconds / self.timed if self.timed else 0.0

    @classmethod
    def of(cls, metrics: str, model_name: str) -> Counts:
        """Those of a model in the text of TF Serving's metrics, over all methods and both APIs."""

        def total(name: str, *, is_error: bool | None = None) -> float:
            return sum(
                value
                for labels, value in samples(metrics, f":tensorflow:serving:{name}")
                if labels.get("model_name") == model_name
                and labels.get("status") not in _STRANGERS
                and (is_error is None or (labels.get("status") != "OK") == is_error)
            )

        return cls(
            total("request_count"),
            total("request_count", is_error=True),
            total("request_latency_count"),
            total("request_latency_sum") / _MICROSECONDS,
        )


def counts(servers: Iterable[RunningServer]) -> dict[str, Counts]:
    """What each server has counted, by its URL; zeros where it tells no metrics."""
    return {server.url: Counts.of(server.metrics(), server.model_name) for server in servers}


def usual(model_base_path: Path, seconds: float) -> dict[str, Counts]:
    """What each running server counts in so many seconds from now; since its start where those are too few requests."""
    first = counts(running_servers(model_base_path))
    time.sleep(seconds)
    last = counts(running_servers(model_base_path))
    window = {url: last[url].since(first.get(url, Counts())) for url in last}
    return {url: window[url] if window[url].requests >= _MIN_REQUESTS else last[url] for url in last}


def watch(
    model_base_path: Path,
    label: str,
    version: int,
    before: Mapping[str, Counts],
    start: Mapping[str, Counts],
    *,
    seconds: float,
    max_latency_ratio: float | None,
) -> tuple[str, Counts]:
    """Watches the running servers of a model for so long; ends early when something is wrong.

    before: what each usually counts. start: what it had counted when the version was promoted. Gives why the version
    must go back, empty when nothing speaks against it, and what all servers counted meanwhile.
    """
    deadline = time.monotonic() + seconds
    while True:
        rest = deadline - time.monotonic()
        time.sleep(max(0.0, min(_SECONDS, rest)))
        servers = running_servers(model_base_path)
        now = counts(servers)
        seen = [now[url].since(start.get(url, Counts())) for url in now]
        reasons = [
            *(_state(server, label, version) for server in servers),
            *(
                _breach(server.url, before.get(server.url, Counts()), since, max_latency_ratio)
                for server, since in zip(servers, seen, strict=True)
            ),
        ]
        reason = next(filter(None, reasons), "")
        if reason or rest <= 0:
            return reason, Counts(*map(sum, zip(*seen, strict=True))) if seen else Counts()


def _state(server: RunningServer, label: str, version: int) -> str:
    """What is wrong with the version on a server."""
    states = server.states()
    if not states:
        # It may have been stopped; when it does not come back, no request can say more.
        return ""
    state = states.get(version)
    if state is None or state["state"] != "AVAILABLE":
        return f"version {version} is {state['state'] if state else 'not loaded'} at {server.url}"
    answering = server.version_of(label)
    return "" if answering == version else f"{label} is version {answering} at {server.url}, not {version}"


def _breach(url: str, before: Counts, since: Counts, max_latency_ratio: float | None) -> str:
    """What the counts say against the version."""
    if since.requests < _MIN_REQUESTS:
        return ""
    if since.error_share > before.error_share + _MAX_ERROR_RISE:
        return (
            f"{since.errors:.0f} of {since.requests:.0f} requests to {url} failed, {since.error_share:.1%}; "
            f"before it were {before.error_share:.1%}"
        )
    if max_latency_ratio is None or before.timed < _MIN_REQUESTS or since.timed < _MIN_REQUESTS:
        return ""
    if since.mean_ms > max_latency_ratio * before.mean_ms:
        return (
            f"requests to {url} take {since.mean_ms:.2f} ms on average, {since.mean_ms / before.mean_ms:.2f} of "
            f"{before.mean_ms:.2f} ms before, more than {max_latency_ratio:g}"
        )
    return ""
