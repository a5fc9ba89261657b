"""What all tests share: toy models; the road, walked once, with a live server at its end; images.

Nothing here imports TensorFlow: who tests something small does not wait for it.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator

import pytest

from serving.launch.backends import BACKENDS
from tests.support.any_models import any_models
from tests.support.attack_costs import pytest_runtest_logreport, pytest_terminal_summary
from tests.support.classifiers import classifiers
from tests.support.containers import LIGHT_CONTAINER, build_context, embedded_image, engine, light_image, serving_image
from tests.support.logs import caplog, earlier_threads
from tests.support.real_data import real_data
from tests.support.road import pictures, road
from tests.support.s3 import s3, s3_environment
from tests.support.toys import lite_flags, lite_toys, toys
from tests.support.turns import group, order, turn

__all__ = [
    "any_models", "build_context", "caplog", "classifiers", "earlier_threads", "embedded_image", "engine",
    "light_image", "lite_flags", "lite_toys", "pictures", "pytest_runtest_logreport", "pytest_terminal_summary",
    "real_data", "road", "s3", "s3_environment", "serving_image", "toys",
]  # fmt: skip
# Imports make only what stays, a fifth of the time with TensorFlow's: no collections until the tests begin.
gc.disable()
# A shell ignores SIGINT for what it runs in the background; the commands that tests start and interrupt would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which servers the end-to-end tests talk to."""
    group = parser.getgroup("servers")
    backends = [*BACKENDS, LIGHT_CONTAINER]
    group.addoption("--server-backend", action="append", choices=backends, help="Only this one; again for more.")
    group.addoption("--server-address", metavar="URL,URL", help="A server that runs: grpc://HOST:PORT,http://HOST:PORT")
    group.addoption("--keras-model", metavar="FILE", help="The .keras model that --server-address serves.")
    group.addoption("--hostile-results", action="store_true", help="Write benchmarks/results/hostile.json.")
    group.addoption("--loop-results", action="store_true", help="Write benchmarks/results/loop.json.")
    group.addoption("--web-picture", action="store_true", help="Write docs/web.webp, of --server-address.")
    group.addoption("--require-container", action="store_true", help="Fail, not skip, where no container engine runs.")


def pytest_configure(config: pytest.Config) -> None:
    """The marks of this suite."""
    config.addinivalue_line("markers", "alone: measures the machine; nothing else is tested meanwhile (pytest-xdist)")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Which tests stay in one process, told before pytest-xdist looks; and their order, after pytest-randomly's."""
    group(items)
    try:
        return (yield)
    finally:
        order(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Spares garbage collections the modules, which live until the end: a tenth of the time with TensorFlow's."""
    gc.collect()
    gc.freeze()
    gc.enable()
    try:
        return (yield)
    finally:
        gc.unfreeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Waits for the test's turn."""
    with turn(item):
        return (yield)
