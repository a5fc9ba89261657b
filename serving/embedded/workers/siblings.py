"""The other worker processes of a server (`--workers`): together they have one status and one configuration.

Each worker is a whole server, and the kernel distributes connections over them (SO_REUSEPORT). Each also listens on a
private UNIX socket, where its siblings ask for its status and send it a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import Message

from serving.apis import messages, services
from serving.apis.status import Code
from serving.embedded.api import Api
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine
from serving.embedded.models.core import ServerCore
from serving.embedded.workers.configuration import SharedConfig
from serving.errors import ServingError

_STATUS_SECONDS = 2.0
# Of a worker that is started at this moment, and of one that has too much to do.
_LATER = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


class SharedApi(Api):
    """The methods of a worker, whose ModelService speaks for all workers.

    directory: private to them. index: this one's number, from 0, of `count`. own_path: the UNIX socket on which this
    one listens for its siblings.
    """

    def __init__(self, core: ServerCore[LoadedModel], engine: Engine, directory: Path, index: int, count: int) -> None:
        super().__init__(core, engine)
        paths = [str(directory / f"worker-{number}.sock") for number in range(count)]
        self.own_path = paths.pop(index)
        self._others = [f"unix:{path}" for path in paths]
        self.config = SharedConfig(core, directory)

    @property
    def own_api(self) -> Api:
        """The methods that siblings ask for: of this worker alone."""
        return _OwnApi(self.core, self.engine, self.config)

    async def status(self, request: messages.GetModelStatusRequest) -> messages.GetModelStatusResponse:
        """The state of a model's versions: of each, that of the worker that is furthest behind. Raises ServingError."""
        own, *others = await asyncio.gather(
            super().status(request),
            self._ask_others(services.GET_MODEL_STATUS, request, _STATUS_SECONDS),
            return_exceptions=True,
        )
        answers = [own, *(others[0] if isinstance(others[0], list) else ())]
        statuses = [answer for answer in answers if isinstance(answer, messages.GetModelStatusResponse)]
        if not statuses and isinstance(own, BaseException):
            raise own
        return merged(statuses)

    async def reload(self, config: messages.ModelServerConfig) -> None:
        """Replaces the configuration of every worker. Raises ServingError, the first that a worker gave.

        A worker that does not answer takes it over later.
        """
        await asyncio.get_running_loop().run_in_executor(None, self.config.reload, config)
        request = messages.ReloadConfigRequest(config=config)
        timeout = self.core.reload_deadline_seconds + _STATUS_SECONDS
        for answer in await self._ask_others(services.HANDLE_RELOAD_CONFIG_REQUEST, request, timeout):
            if isinstance(answer, ServingError) and answer.code not in _LATER:
                raise answer

    async def _ask_others(
        self, method: services.Method, request: Message, timeout: float
    ) -> list[Message | BaseException]:
        asks = (_ask(address, method, request, timeout) for address in self._others)
        return await asyncio.gather(*asks, return_exceptions=True)


class _OwnApi(Api):
    """What a worker answers its siblings. config: what they share."""

    def __init__(self, core: ServerCore[LoadedModel], engine: Engine, config: SharedConfig) -> None:
        super().__init__(core, engine)
        self._config = config

    async def reload(self, _: messages.ModelServerConfig) -> None:
        """Takes over what a sibling has written down, which may be newer than what it asks for. Raises ServingError."""
        await asyncio.get_running_loop().run_in_executor(None, self._config.follow)


def merged(answers: Iterable[messages.GetModelStatusResponse]) -> messages.GetModelStatusResponse:
    """One status from those of all workers: for each version an error if there is one, else the earliest state."""
    versions: dict[int, messages.ModelVersionStatus] = {}
    for answer in answers:
        for status in answer.model_version_status:
            other = versions.get(status.version)
            if other is None or _rank(status) < _rank(other):
                versions[status.version] = status
    return messages.GetModelStatusResponse(
        model_version_status=[versions[number] for number in sorted(versions, reverse=True)]
    )


def _rank(status: messages.ModelVersionStatus) -> tuple[bool, int]:
    return (status.status.error_code == 0, status.state)


async def _ask(address: str, method: services.Method, request: Message, timeout: float | None) -> Message:
    """Asks a sibling. Raises ServingError with its code and text."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        try:
            answer: Message = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise ServingError(error.details() or "a worker did not answer", Code(error.code().value[0])) from error
        return answer
