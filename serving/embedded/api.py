"""What both front ends call: one implementation of every method."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from fashion_common.runtimes import LITERT, TENSORFLOW
from serving.apis import messages, runtimes
from serving.apis.signatures import Signature, signatures
from serving.embedded.inference.model import LoadedModel
from serving.embedded.inference.predict import Engine
from serving.embedded.models.core import ServerCore
from serving.errors import InvalidArgument, NotFound, ResourceExhausted, ServingError, quoted

SIGNATURE_DEF = "signature_def"

# The flag's names for the metrics'.
_RUNTIMES = {"TF1": TENSORFLOW, "LiteRT": LITERT}

# Reloads that wait for each other.
_MAX_RELOADS = 8


class Api:
    """The methods of both services, of this process; worker processes put one that asks their siblings in its place."""

    def __init__(self, core: ServerCore[LoadedModel], engine: Engine) -> None:
        self.core = core
        self.engine = engine
        # A reload takes as long as its models need: it must not hold up what runs in the event loop's own threads.
        self._reloader = ThreadPoolExecutor(1, "reload")
        self._reloads = threading.BoundedSemaphore(_MAX_RELOADS)

    async def status(self, request: messages.GetModelStatusRequest) -> messages.GetModelStatusResponse:
        """The state of a version, or of all versions newest first; a label is ignored, as in TF Serving.

        Raises ServingError.
        """
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        spec = request.model_spec
        statuses = self.core.manager.statuses(spec.name)
        if spec.WhichOneof("version_choice") == "version":
            statuses = [status for status in statuses if status.version == spec.version.value]
            if not statuses:
                raise NotFound(f"Could not find version {spec.version.value} of model {quoted(spec.name)}")
        if not statuses:
            error = self.core.errors().get(spec.name)
            raise NotFound(
                f"Could not find any versions of model {quoted(spec.name)}" + (f": {error}" if error else "")
            )
        return messages.GetModelStatusResponse(model_version_status=statuses)

    def runtimes_header(self, name: str) -> tuple[bytes, bytes]:
        """The header that tells which runtime serves each version of a model."""
        loaded = self.core.manager.servables(name)
        value = runtimes.header_value(
            {number: _RUNTIMES.get(servable.runtime, servable.runtime) for number, servable in loaded.items()}
        )
        return runtimes.HEADER.encode(), value.encode()

    async def reload(self, config: messages.ModelServerConfig) -> None:
        """Replaces the configuration, after the reloads that were asked for before.

        One that is given up while it waits is not done. Raises ServingError, ResourceExhausted when too many wait.
        """
        if not self._reloads.acquire(blocking=False):
            raise ResourceExhausted(f"{_MAX_RELOADS} reloads are under way, as many as there may be: try again")
        running = self._reloader.submit(self.core.reload, config)
        running.add_done_callback(lambda _: self._reloads.release())
        await asyncio.wrap_future(running)

    def metadata(self, request: messages.GetModelMetadataRequest) -> messages.GetModelMetadataResponse:
        """The signatures of a version. Raises ServingError."""
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {quoted(field)} is not supported")
        with self.core.use(request.model_spec) as version:
            response = messages.GetModelMetadataResponse(model_spec=version.servable.spec())
            definitions = {name: signature.definition for name, signature in version.servable.signatures.items()}
            signatures = messages.SignatureDefMap(signature_def=definitions)
            response.metadata[SIGNATURE_DEF].Pack(signatures, deterministic=True)
        return response

    def signatures(self) -> dict[str, dict[str, Signature]]:
        """Those of the newest version of each model, by the model's name; none of one that has no version to serve."""
        models = {}
        for name in sorted(self.core.model_names):
            with contextlib.suppress(ServingError), self.core.use(messages.ModelSpec(name=name)) as version:
                loaded = version.servable.signatures
                models[name] = signatures({key: signature.definition for key, signature in loaded.items()})
        return models
