"""What both front ends call: one implementation of every method."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from serving.apis.messages import GetModelStatusRequest, GetModelStatusResponse, ModelServerConfig
from serving.embedded.inference import info
from serving.embedded.inference.examples import ExampleInference
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Predictor
from serving.embedded.models.core import ServerCore


class ModelAdmin:
    """What ModelService does; worker processes put one that asks their siblings in its place."""

    def __init__(self, core: ServerCore[LoadedModel]) -> None:
        self._core = core

    async def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """The state of a model's versions. Raises ServingError."""
        return info.status(self._core, request)

    async def reload(self, config: ModelServerConfig) -> None:
        """Replaces the configuration. Raises ServingError."""
        await asyncio.get_running_loop().run_in_executor(None, self._core.reload, config)


class Api(NamedTuple):
    """What the models' methods need."""

    core: ServerCore[LoadedModel]
    predictor: Predictor
    examples: ExampleInference
    admin: ModelAdmin
