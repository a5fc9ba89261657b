"""One server with little memory for all attacks, and the table of what they cost.

HOSTILE_RUNTIME=litert attacks a server of models for LiteRT.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.grounds import Cost, Grounds, grounds
from tests.support.attack_costs import PROPERTY


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and callers at their own speed: to measure the coverage of a process makes it half as fast."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def runtime() -> str:
    """What runs the models that are attacked."""
    return os.environ.get("HOSTILE_RUNTIME", "tensorflow")


@pytest.fixture(scope="session")
def toys(runtime: str, request: pytest.FixtureRequest) -> Path:
    """The directory of that runtime's toy models."""
    path: Path = request.getfixturevalue("lite_toys" if runtime == "litert" else "toys")
    return path


@pytest.fixture(scope="session")
def flags(runtime: str, toys: Path) -> Sequence[str]:
    """Those of a server of half_plus_two alone."""
    return f"--runtime={runtime}", "--model_name=half_plus_two", f"--model_base_path={toys / 'half_plus_two'}"


@pytest.fixture(scope="session")
def hostile_grounds(
    toys: Path, runtime: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Grounds]]:
    """Gives the server; a new one when an attack has brought it down, so that each test speaks for itself."""
    with contextlib.ExitStack() as stack:
        current: list[Grounds] = []

        def get() -> Grounds:
            if not current or not current[-1].is_alive:
                if current:
                    current[-1].server.process.kill()
                current.append(stack.enter_context(grounds(toys, tmp_path_factory.mktemp("hostile"), runtime)))
            return current[-1]

        yield get


@pytest.fixture
def note_cost(record_property: Callable[[str, object], None]) -> Callable[[str, Cost, Grounds], None]:
    """Notes what an attack cost for the table, in whichever process it is tested."""

    def note(name: str, cost: Cost, ground: Grounds) -> None:
        what = (ATTACKS[name].__doc__ or "").splitlines()[0] if name in ATTACKS else "The innocent callers alone"
        record_property(PROPERTY, {"name": name, "what": what, "means": ground.memory.means, **cost._asdict()})

    return note
