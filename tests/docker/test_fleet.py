"""Three containers behind one client: one is killed under load, and no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from client import connect
from serving.launch.backends import RESTRICTIONS
from tests.support.containers import BuiltImage, remove, run, wait_until_healthy

# The first of them builds an image.
pytestmark = pytest.mark.timeout(1800)
SERVERS = 3
REQUESTS = 150
KILLED_AT = 30
THREADS = 4


@pytest.fixture
def fleet(engine: str, embedded_image: BuiltImage) -> Iterator[dict[str, str]]:
    """Three servers: the address of each by the name of its container."""
    start = ["run", "--detach", *RESTRICTIONS, "--publish=127.0.0.1::8500", embedded_image.name]
    names: list[str] = []
    try:
        while len(names) < SERVERS:
            names.append(run(engine, *start))
        for name in names:
            wait_until_healthy(engine, name)
        yield {name: f"grpc://{run(engine, 'port', name, '8500').splitlines()[0]}" for name in names}
    finally:
        for name in names:
            remove(engine, name)


def test_killing_one_of_three_under_load_loses_no_request(engine: str, fleet: dict[str, str]) -> None:
    """SIGKILL in the middle of the load: every request is answered, all by the two that are left afterwards."""
    image = np.zeros((1, 28, 28), np.uint8)
    answered: list[int] = []
    failed: list[BaseException] = []
    half = threading.Event()

    with connect(*fleet.values(), timeout=20) as connection:
        expected = connection.predict(image)[0].class_id

        def ask() -> None:
            try:
                for _ in range(REQUESTS):
                    answered.append(connection.predict(image)[0].class_id)
                    if len(answered) >= KILLED_AT:
                        half.set()
            except Exception as error:  # noqa: BLE001 - it is the test's finding, in another thread
                failed.append(error)
                half.set()

        threads = [threading.Thread(target=ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        assert half.wait(60)
        killed = next(iter(fleet))
        run(engine, "kill", "--signal=KILL", killed)
        before = len(answered)
        for thread in threads:
            thread.join(timeout=120)
    assert failed == []
    assert answered == [expected] * (REQUESTS * THREADS)
    assert before < len(answered), "the load was over before the server was killed"
    assert run(engine, "inspect", "--format={{.State.Running}}", killed) == "false"
