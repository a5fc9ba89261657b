"""The other worker processes of a server (`--workers`): together they have one status and one configuration.

Each worker is a whole server, and the kernel distributes connections over them (SO_REUSEPORT). Each also listens on a
private UNIX socket, where its siblings ask for its status and send it a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from fashion_common.files import write_whole
from serving.apis import messages, services
from serving.apis.status import Code
from serving.embedded.api import Api
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine
from serving.embedded.models.core import ServerCore
from serving.errors import ServingError

_STATUS_SECONDS = 5.0


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
        # For a worker that has to be started again.
        self._config = directory / "reloaded.binpb"

    def read_config(self) -> messages.ModelServerConfig | None:
        """The configuration that was reloaded last, or None when the flags' still holds."""
        return messages.ModelServerConfig.FromString(self._config.read_bytes()) if self._config.exists() else None

    async def status(self, request: messages.GetModelStatusRequest) -> messages.GetModelStatusResponse:
        """The state of a model's versions: of each, that of the worker that is furthest behind. Raises ServingError."""
        answers = await self._all(super().status(request), services.GET_MODEL_STATUS, request, _STATUS_SECONDS)
        statuses = [answer for answer in answers if isinstance(answer, messages.GetModelStatusResponse)]
        if not statuses and isinstance(answers[0], BaseException):
            raise answers[0]
        return merged(statuses)

    async def reload(self, config: messages.ModelServerConfig) -> None:
        """Replaces the configuration of every worker. Raises ServingError, the first that a worker gave."""
        request = messages.ReloadConfigRequest(config=config)
        answers = await self._all(super().reload(config), services.HANDLE_RELOAD_CONFIG_REQUEST, request)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise errors[0]
        write_whole(self._config, config.SerializeToString())

    async def _all(
        self, own: Awaitable[Any], method: services.Method, request: Message, timeout: float | None = None
    ) -> list[Any]:
        """The answers of this worker and of the others, or what they raised."""
        others = (_ask(address, method, request, timeout) for address in self._others)
        return await asyncio.gather(own, *others, return_exceptions=True)


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
