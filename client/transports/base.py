"""What carries requests to a server: a Transport, and the Wire that writes its requests and reads its responses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from client.types import Call, Calls, Metadata, ModelSpec, Output, Signature, VersionStatus

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from serving.apis.tensors import Array

_R = TypeVar("_R")


@dataclass(frozen=True)
class Exchange(Generic[_R]):
    """A request as its API sends it, and `read`, which makes the client's types of the API's response.

    messages: of a Predict request, which makes its PredictRequest and PredictResponse of the response, for a recording.
    """

    request: Any
    read: Callable[[Any], _R]
    messages: Callable[[Any, Metadata], tuple[Message, Message]] | None = None


class Wire(Protocol):
    """How an API writes requests and reads responses, without input and output: the module grpc_wire or rest_wire."""

    def predict(self, model: ModelSpec, calls: Calls) -> Exchange[dict[str, Output]]:
        """One of `calls`, the first or the cheapest; read as output name -> values.

        REST answers a single output without its name: here its name is "".
        """

    def infer(self, model: ModelSpec, call: Call, signature: Signature) -> Exchange[dict[str, Array]]:
        """A call of any signature; read as output name -> array, of the signature's dtype.

        Raises ClientUsageError for what the API cannot carry.
        """

    def message(self, request: Message) -> Exchange[Any]:
        """A request message of PredictionService as it is, read as its response message.

        Raises ClientUsageError for what the API cannot carry.
        """

    def status(self, model: ModelSpec) -> Exchange[list[VersionStatus]]:
        """Read as the state of the model's versions, the newest first."""

    def metadata(self, model: ModelSpec) -> Exchange[Metadata]:
        """Read as the model's signatures."""

    def metrics(self) -> Exchange[str]:
        """Read as what Prometheus reads. Raises ClientUsageError for an API that has no metrics."""


class Transport(Protocol):
    """One connection to a server; `send` and `close` return awaitables where it is asyncio's.

    Safe to use from several threads; one of asyncio's belongs to the event loop that it is first used in.
    """

    @property
    def wire(self) -> Wire:
        """The API that the server speaks."""

    def send(self, request: Any, timeout: float) -> Any:
        """The response to an Exchange's request; timeout: its deadline in seconds."""

    def client_errors(self, timeout: float, /) -> AbstractContextManager[None]:
        """Raises what the API's library raises within as a ClientError, with its cause."""

    def diagnosis(self) -> str:
        """Why the server does not answer, with the fix; "" where nothing is wrong with the connection."""

    def close(self) -> Any:
        """Ends the connection."""
