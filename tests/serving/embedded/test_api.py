"""Reloads by callers wait for each other, within bounds, and hold up nothing else."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving.apis.messages import GetModelStatusRequest, ModelServerConfig, ModelSpec
from serving.embedded.api import Api
from serving.embedded.models.manager import Manager
from serving.errors import NotFound, ResourceExhausted
from tests.support.fakes import FakeLoader


class SlowCore:
    """Reloads one at a time, each once the gate is open; `reloaded` has what was."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.reloaded: list[str] = []
        self.manager = Manager(FakeLoader())

    def reload(self, config: ModelServerConfig) -> None:
        """One reload."""
        self.begun.set()
        assert self.gate.wait(10)
        self.reloaded.append(config.model_config_list.config[0].name)

    def errors(self) -> dict[str, Exception]:
        """None."""
        return {}


def config(name: str) -> ModelServerConfig:
    """A configuration of one model."""
    configuration = ModelServerConfig()
    configuration.model_config_list.config.add(name=name)
    return configuration


def test_reloads_wait_for_each_other() -> None:
    """In their order, eight at most; one that its client gives up while it waits is not done."""
    core = SlowCore()
    api = Api(cast("Any", core), cast("Any", SimpleNamespace()))

    async def ask() -> list[object]:
        tasks = [asyncio.create_task(api.reload(config(str(number)))) for number in range(9)]
        await asyncio.to_thread(core.begun.wait, 10)
        tasks[3].cancel()
        await asyncio.sleep(0)
        await asyncio.to_thread(str)  # the event loop's own threads are free
        core.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await api.reload(config("later"))
        return [type(answer) for answer in answers]

    answers = asyncio.run(ask())

    assert answers == [type(None)] * 3 + [asyncio.CancelledError] + [type(None)] * 4 + [ResourceExhausted]
    assert core.reloaded == ["0", "1", "2", "4", "5", "6", "7", "later"]


def test_long_names_are_quoted_in_part() -> None:
    """An error is not larger than what it says."""
    api = Api(cast("Any", SlowCore()), cast("Any", SimpleNamespace()))
    request = GetModelStatusRequest(model_spec=ModelSpec(name="m" * 10**6))

    with pytest.raises(NotFound) as raised:
        asyncio.run(api.status(request))

    assert str(raised.value) == f"Could not find any versions of model {'m' * 200}..."
