"""The server's process before it serves: its usage, versions, signals, and what it does without."""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import metadata, util

import pytest

from fashion_common import telemetry
from serving.embedded import __main__ as main
from serving.embedded import event_log
from serving.embedded.flags import Flags, usage
from serving.embedded.observe.tracer import Levels
from serving.errors import FailedPrecondition


def test_usage_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    """--help is printed to stdout; what is wrong with a flag to stderr, in one line."""
    assert main._main(["--port=x", "--help"]) == 2
    assert capsys.readouterr() == (
        "",
        "Couldn't interpret value x for flag port: expected a whole number from -1 to 65535; --help lists the flags\n",
    )
    assert main._main(["--port=7", "--rest_api_port=7"]) == 2
    assert capsys.readouterr().err == "--rest_api_port cannot be the same as --port: 7; --help lists the flags\n"
    assert main._main(["--help"]) == 0
    assert capsys.readouterr() == (usage(), "")


@pytest.mark.parametrize("installed", [("tensorflow", "ai_edge_litert"), ("ai_edge_litert",), ()])
def test_versions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...]
) -> None:
    """Of the package and of each runtime that is installed."""
    monkeypatch.setattr(util, "find_spec", lambda name: object() if name in installed else None)
    monkeypatch.setattr(metadata, "version", lambda name: f"{name}-1")
    import tensorflow as tf

    lines = ["TensorFlow ModelServer: fashion-mnist-serving fashion-mnist-serving-1"]
    lines += [f"TensorFlow Library: {tf.__version__}"] if "tensorflow" in installed else []
    lines += ["LiteRT Library: ai-edge-litert-1"] if installed else []
    assert main._print_version() == 0
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    """Either of the two that end a server."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopping = main._set_by_signals()
        assert not stopping.is_set()
        signal.raise_signal(number)
        assert stopping.wait(10)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def test_without_tensorflow_there_is_nothing_to_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not imported for that."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(FailedPrecondition) as raised:
        main._trace(Levels(), 1.0, threading.Event())
    assert str(raised.value) == "There is nothing to trace: no version is served by TensorFlow"
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(("index", "told"), [(-1, 1), (0, 1), (1, 0)])
def test_spans_that_cannot_be_sent_hold_up_no_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, index: int, told: int
) -> None:
    """Of several workers one says so."""
    monkeypatch.setattr(event_log.notices, "propagate", True)
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    assert main._telemetry(Flags(worker_index=index)) is None
    assert not caplog.records
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert main._telemetry(Flags(worker_index=index)) is None
    assert len(caplog.records) == told
    assert all("no traces are sent: OTEL_TRACES_EXPORTER=zipkin" in message for message in caplog.messages)


@pytest.mark.parametrize(("file", "scheme"), [("", "http"), ("ssl.config", "https")])
def test_spans_are_sent_under_the_servers_name(monkeypatch: pytest.MonkeyPatch, file: str, scheme: str) -> None:
    """With the REST port's scheme."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    made = main._telemetry(Flags(ssl_config_file=file))
    assert made
    assert made._scheme == scheme
    assert made._provider.resource.attributes["service.name"] == "fashion-serving"
    telemetry.stop(made._provider, 5)
