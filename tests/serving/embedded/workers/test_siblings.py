"""What workers say together: one status, one configuration, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from fashion_common.files import write_whole
from serving.apis import messages, services
from serving.apis.status import Code
from serving.embedded.workers import siblings
from serving.embedded.workers.configuration import Record, record_path
from serving.embedded.workers.siblings import SharedApi, merged
from serving.errors import InvalidArgument, NotFound, ServingError

START, LOADING, AVAILABLE, END = 10, 20, 30, 50
Answer = Callable[[], Awaitable[Any]]


def status(*versions: tuple[int, int, int]) -> messages.GetModelStatusResponse:
    """One worker's. versions: number, state and error code."""
    answer = messages.GetModelStatusResponse()
    for number, state, code in versions:
        version = answer.model_version_status.add(version=number, state=state)
        version.status.error_code = code
        version.status.error_message = f"error {code}" if code else ""
    return answer


def versions(answer: messages.GetModelStatusResponse) -> list[tuple[int, int, int]]:
    """What `status` was given."""
    return [(each.version, each.state, each.status.error_code) for each in answer.model_version_status]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], []),
        ([[(1, AVAILABLE, 0)]], [(1, AVAILABLE, 0)]),
        ([[(1, AVAILABLE, 0)], [(1, LOADING, 0)]], [(1, LOADING, 0)]),
        ([[(1, LOADING, 0)], [(1, AVAILABLE, 0)]], [(1, LOADING, 0)]),
        ([[(1, START, 0)], [(1, END, 5)]], [(1, END, 5)]),
        ([[(1, END, 5)], [(1, START, 0)]], [(1, END, 5)]),
        ([[(1, END, 5)], [(1, END, 3)]], [(1, END, 5)]),
        (
            [[(9, AVAILABLE, 0), (2, END, 0)], [(10, START, 0), (9, AVAILABLE, 0)]],
            [(10, START, 0), (9, AVAILABLE, 0), (2, END, 0)],
        ),
    ],
)
def test_each_version_is_as_far_as_the_worker_that_is_furthest_behind(
    answers: list[list[tuple[int, int, int]]], expected: list[tuple[int, int, int]]
) -> None:
    """An error before all else; the newest version first."""
    assert versions(merged([status(*each) for each in answers])) == expected


class Core:
    """What a worker has: the status of its model `m`, and the configurations that it took over."""

    reload_deadline_seconds = 1.0

    def __init__(self, *versions: tuple[int, int, int]) -> None:
        self.reloaded: list[str] = []
        self.manager = self
        self._statuses = list(status(*versions).model_version_status)

    def statuses(self, _: str) -> list[messages.ModelVersionStatus]:
        """As the manager has it."""
        return self._statuses

    def errors(self) -> dict[str, Exception]:
        """As the core has it."""
        return {}

    def reload(self, config: messages.ModelServerConfig, *, own: bool, before: Callable[[], None]) -> None:
        """As the core has it."""
        assert not own
        before()
        self.reloaded.append(config.model_config_list.config[0].name)


class Sibling:
    """Another worker, which answers what it is told to. asked: the requests that it had; seconds: the time for each."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.seconds: list[float] = []
        self._path = path
        self._answer = answer

    async def __aenter__(self) -> Sibling:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))  # type: ignore[arg-type]
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    def service(self, details: Any) -> Any:
        """As grpc's generic handlers have it."""
        methods = {each.path: each for each in (services.GET_MODEL_STATUS, services.HANDLE_RELOAD_CONFIG_REQUEST)}
        method = methods[details.method]

        async def answer(request: Any, context: Any) -> Any:
            self.asked.append((method.path, request))
            self.seconds.append(context.time_remaining())
            try:
                return await self._answer()
            except ServingError as error:
                await context.abort(grpc.StatusCode[error.code.name], str(error))

        return grpc.unary_unary_rpc_method_handler(
            answer, method.request_class.FromString, method.response_class.SerializeToString
        )


def shared(core: Core, directory: Path, index: int = 0, count: int = 2) -> SharedApi:
    """The methods of one of several workers."""
    anything: Any = core
    write_whole(record_path(directory), Record(messages.ModelServerConfig()).to_bytes())
    api = SharedApi(anything, SimpleNamespace(), directory, index, count)  # type: ignore[arg-type]
    api.config.first()
    return api


def ask(core: Core, directory: Path, answer: Answer, request: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """What a worker answers beside a sibling that answers so, and what that was asked."""

    async def asked() -> tuple[Any, list[tuple[str, Any]]]:
        async with Sibling(directory / "worker-1.sock", answer) as sibling:
            api = shared(core, directory)
            if isinstance(request, messages.GetModelStatusRequest):
                return await api.status(request), sibling.asked
            return await api.reload(request), sibling.asked  # type: ignore[func-returns-value]

    return asyncio.run(asked())


STATUS = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="m"))


async def available() -> Any:
    """A sibling that serves version 2."""
    return status((2, AVAILABLE, 0))


def failing(error: ServingError) -> Answer:
    """A sibling that fails."""

    async def fail() -> Any:
        raise error

    return fail


def test_a_status_is_of_all_workers(tmp_path: Path) -> None:
    """The same request goes to the others."""
    answer, asked = ask(Core((2, LOADING, 0)), tmp_path, available, STATUS)
    assert versions(answer) == [(2, LOADING, 0)]
    assert asked == [(services.GET_MODEL_STATUS.path, STATUS)]
    assert versions(ask(Core(), tmp_path, available, STATUS)[0]) == [(2, AVAILABLE, 0)]
    broken = failing(InvalidArgument("no"))
    assert versions(ask(Core((3, END, 0)), tmp_path, broken, STATUS)[0]) == [(3, END, 0)]


def test_what_no_worker_knows_is_told_by_the_one_that_is_asked(tmp_path: Path) -> None:
    """Its own error, whatever that of the others is."""
    with pytest.raises(NotFound, match="Could not find any versions of model m"):
        ask(Core(), tmp_path, failing(InvalidArgument("no")), STATUS)


def test_a_sibling_that_does_not_answer_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is left out."""
    monkeypatch.setattr(siblings, "_STATUS_SECONDS", 0.05)

    async def never() -> Any:
        await asyncio.Event().wait()

    assert versions(ask(Core((3, AVAILABLE, 0)), tmp_path, never, STATUS)[0]) == [(3, AVAILABLE, 0)]


def test_siblings_have_two_seconds_and_for_a_reload_what_that_takes(tmp_path: Path) -> None:
    """Its deadline, here of one."""

    async def seconds() -> list[float]:
        async with Sibling(tmp_path / "worker-1.sock", available) as sibling:
            api = shared(Core((2, AVAILABLE, 0)), tmp_path)
            await api.status(STATUS)
            await api.reload(config("new"))
            return sibling.seconds

    status_seconds, reload_seconds = asyncio.run(seconds())
    assert 1.1 < status_seconds < 2.1 < reload_seconds < 3.1


def config(name: str) -> messages.ModelServerConfig:
    """A configuration of one model."""
    result = messages.ModelServerConfig()
    result.model_config_list.config.add(name=name, base_path=f"/{name}")
    return result


async def reloaded() -> Any:
    """A sibling that has taken a configuration over."""
    return messages.ReloadConfigResponse()


@pytest.mark.parametrize("code", [None, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_a_reload_goes_to_all_workers(code: Code | None, tmp_path: Path) -> None:
    """One that is about to start, or has too much to do, takes it over later."""
    core, new = Core(), config("new")
    answer = reloaded if code is None else failing(ServingError("later", code))
    _, asked = ask(core, tmp_path, answer, new)
    assert core.reloaded == ["new"]
    path, request = asked[0]
    assert (path, request.config) == (services.HANDLE_RELOAD_CONFIG_REQUEST.path, new)


@pytest.mark.parametrize("error", [InvalidArgument("no such model"), ServingError("too slow", Code.DEADLINE_EXCEEDED)])
def test_a_reload_that_another_worker_refuses_says_why(error: ServingError, tmp_path: Path) -> None:
    """With its code and its text."""
    core = Core()
    with pytest.raises(ServingError) as raised:
        ask(core, tmp_path, failing(error), config("new"))
    assert (raised.value.code, str(raised.value)) == (error.code, str(error))
    assert core.reloaded == ["new"]


def test_a_sibling_that_is_told_of_a_reload_follows_what_is_written_down(tmp_path: Path) -> None:
    """Which may be newer than what it is told."""
    first, second = Core(), Core()
    one, other = shared(first, tmp_path), shared(second, tmp_path, index=1)
    assert one.own_path == str(tmp_path / "worker-0.sock")
    assert other.own_path == str(tmp_path / "worker-1.sock")
    one.config.reload(config("newest"))
    asyncio.run(other.own_api.reload(config("older")))
    assert (first.reloaded, second.reloaded) == (["newest"], ["newest"])


def test_a_worker_alone_asks_nobody(tmp_path: Path) -> None:
    """Its status is its own."""
    api = shared(Core((1, AVAILABLE, 0)), tmp_path, count=1)
    assert versions(asyncio.run(api.status(STATUS))) == [(1, AVAILABLE, 0)]
