"""A Connection over FakeTransports: the calls it makes of images, the predictions it makes of answers, its attempts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import numpy as np
import pytest

from client import aio
from client.aio import AsyncConnection
from client.connection import Connection, connect
from client.errors import ClientUsageError, ServerError, server_error
from client.limits import FIRST_PAUSE
from client.transports import grpc_wire, retry
from client.transports.base import Exchange
from client.transports.fake import FakeTransport
from client.transports.retry import RoundRobin
from client.transports.security import Security
from client.types import Metadata, ModelSpec, Prediction, Signature, TensorInfo
from serving.apis.messages import PredictRequest
from tests.support.clocks import Clock

_ZEROS = np.zeros((28, 28), np.uint8)


def _connection(*transports: FakeTransport, timeout: float = 1) -> Connection:
    return Connection(transports, ModelSpec(), timeout=timeout)


def test_images_go_to_serving_default_and_come_back_as_predictions() -> None:
    """As uint8, 784 bytes an image; names come from the client's own table when the server gives none."""
    transport = FakeTransport(class_id=9)
    images = np.arange(2 * 784, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    predictions = _connection(transport).predict(images)
    row = tuple(0.91 if index == 9 else 0.01 for index in range(10))
    assert predictions == [Prediction(9, "Ankle boot", 0.91, row)] * 2
    [call] = transport.asked
    assert (call.signature_name, dict(call.inputs)) == (
        "serving_default",
        {"images": ("DT_UINT8", (2, 28, 28), images.tobytes())},
    )


def test_a_sequence_of_images_is_a_batch() -> None:
    """Arrays [28, 28], in order."""
    transport = FakeTransport()
    images = [np.full((28, 28), value, np.uint8) for value in (1, 2)]
    assert len(_connection(transport).predict(images)) == 2
    assert transport.asked[0].inputs["images"].content == b"\1" * 784 + b"\2" * 784


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (np.zeros((1, 784), np.uint8), r"got uint8 \[1, 784\]: images.reshape\(-1, 28, 28\) would fit"),
        (np.zeros((28, 28), np.uint8), r"got uint8 \[28, 28\]"),
        (np.zeros((0, 28, 28), np.uint8), r"N above 0, got uint8 \[0, 28, 28\]"),
        ([], "no images"),
        (np.zeros((1, 28, 28), np.int64), r"got int64 .*astype\('uint8'\)"),
        (np.full((1, 28, 28), 200, np.float32), r"must be scaled to 0..1, got 200 to 200: send uint8 pixels"),
        (np.full((1, 28, 28), np.nan, np.float32), r"must be scaled to 0..1"),
        (np.full((1, 28, 28), -1, np.float32), r"must be scaled to 0..1, got -1 to -1"),
        (np.linspace(-1, 1, 784, dtype=np.float32).reshape(1, 28, 28), r"must be scaled to 0..1, got -1 to 1: "),
        (np.full((1, 28, 28), np.nextafter(np.float32(1), np.float32(2))), r"must be scaled to 0..1, got 1 to 1: "),
        (np.r_[np.zeros(783), np.nan].astype(np.float32).reshape(1, 28, 28), r"0..1, got 0 to 0 with NaN"),
        ([[1, 2]], r"images\[0\] must be an array, a path, the bytes of a picture file or Pillow's image, not list"),
        ([_ZEROS, _ZEROS.astype(np.float32)], r"must be uint8 .* each, got float32 \[28, 28\]"),
        ([_ZEROS.astype(np.float32), _ZEROS], r"must be uint8 .* each, got uint8 \[28, 28\]"),
        ([_ZEROS, _ZEROS[:27]], r"must be uint8 .* each, got uint8 \[27, 28\]"),
    ],
    ids=[
        "flat", "single", "empty", "none", "int64", "unscaled", "nan", "negative", "from -1 to 1", "just above 1",
        "one nan", "lists", "uint8 then float32", "float32 then uint8", "shapes",
    ],
)  # fmt: skip
def test_wrong_images_are_refused_before_anything_is_sent(images: np.ndarray, why: str) -> None:
    """A (1,784) tensor or unscaled floats would be answered with nonsense by the server."""
    transport = FakeTransport()
    with pytest.raises(ClientUsageError, match=why):
        _connection(transport).predict(images)
    assert transport.asked == []


def test_floats_from_0_to_1_are_sent() -> None:
    """Both included, bit by bit."""
    signature = Signature({"images": TensorInfo("DT_FLOAT", (-1, 28, 28))}, {}, "")
    transport = FakeTransport(model_metadata=Metadata("m", 1, {"serving_default": signature}))
    images = np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 28, 28)
    assert len(_connection(transport).predict(images)) == 1
    assert transport.asked[0].inputs["images"].content == images.tobytes()


def test_a_signature_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    """By the metadata of the model."""
    transport = FakeTransport()
    connection = _connection(transport)
    with pytest.raises(ClientUsageError, match="fashion_mnist has no signature 'other': it has serving_default"):
        connection.predict(np.zeros((1, 28, 28), np.uint8), signature_name="other")
    with pytest.raises(ClientUsageError, match="'serving_default' takes DT_UINT8"):
        connection.predict(np.zeros((1, 28, 28), np.float32))
    assert transport.asked == []


def test_large_batches_are_split_below_the_message_limit() -> None:
    """4 MB is what a gRPC peer takes unless it was told otherwise; order is kept."""
    transport = FakeTransport()
    images = np.zeros((6000, 28, 28), np.uint8)
    assert len(_connection(transport).predict(images)) == 6000
    sizes = [len(call.inputs["images"].content) for call in transport.asked]
    assert len(sizes) == 2
    assert sum(sizes) == images.nbytes
    assert max(sizes) < 4 * 1024 * 1024


@pytest.mark.parametrize(("dtype", "name"), [("DT_FLOAT", "floats"), ("DT_STRING", "files")])
def test_batches_are_split_by_what_is_sent(dtype: str, name: str) -> None:
    """Floats take four bytes a pixel, and noise as PNG more than its pixels."""
    signature = Signature({"images": TensorInfo(dtype, (-1,) if dtype == "DT_STRING" else (-1, 28, 28))}, {}, "")
    transport = FakeTransport(model_metadata=Metadata("m", 1, {name: signature}))
    images = np.random.default_rng(1).integers(0, 256, (6000, 28, 28), np.uint8)
    assert len(_connection(transport).predict(images, signature_name=name)) == 6000
    requests = [grpc_wire.predict_request(ModelSpec(), call) for call in transport.asked]
    assert len(requests) == {"DT_FLOAT": 5, "DT_STRING": 2}[dtype]
    assert max(request.ByteSize() for request in requests) < 4 * 1024 * 1024


def test_a_closed_connection_says_so() -> None:
    """Whatever the API's library would say."""
    for server in ("grpc://127.0.0.1:1", "http://127.0.0.1:1"):
        connection = connect(server)
        connection.close()
        with pytest.raises(ClientUsageError, match="the connection is closed"):
            connection.predict(np.zeros((1, 28, 28), np.uint8))


def test_metadata_is_read_once() -> None:
    """Not once a call."""

    class Counting(FakeTransport):
        count = 0

        def metadata(self, model: ModelSpec) -> Exchange[Metadata]:
            self.count += 1
            return super().metadata(model)

    transport = Counting()
    connection = _connection(transport)
    for _ in range(3):
        connection.predict(np.zeros((1, 28, 28), np.uint8))
    assert transport.count == 1


def test_unavailable_is_tried_again_and_other_errors_are_not() -> None:
    """Three rounds at most; the pause is inside the deadline."""
    unavailable = server_error("UNAVAILABLE", "gone")
    transport = FakeTransport(errors=[unavailable, unavailable])
    assert _connection(transport).status()[0].state == "AVAILABLE"
    transport = FakeTransport(errors=[unavailable] * 3)
    with pytest.raises(ServerError, match="gone"):
        _connection(transport).status()
    transport = FakeTransport(errors=[server_error("INTERNAL", "broken")])
    with pytest.raises(ServerError, match="broken"):
        _connection(transport).status()
    with pytest.raises(ServerError, match=r"DEADLINE_EXCEEDED: no server in time; last: UNAVAILABLE: gone"):
        _connection(FakeTransport(errors=[unavailable]), timeout=0.01).status()


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_without_retry_each_call_is_sent_once(code: str) -> None:
    """To the server whose turn it is, with the whole deadline."""
    first, second = FakeTransport(errors=[server_error(code, "gone")] * 2), FakeTransport()
    connection = Connection([first, second], ModelSpec(), retry=False)
    for _ in range(2):
        with pytest.raises(ServerError, match="gone"):
            connection.status()
        assert connection.status()
    assert first.errors == []
    assert RoundRobin([first, second], retry=False).attempts(timeout=60).timeout == pytest.approx(60, rel=0.1)


def test_the_pauses_between_rounds_grow() -> None:
    """Each is at least as long as the longest that the one before could be; the third round is the last."""
    unavailable = server_error("UNAVAILABLE", "gone")
    attempts = RoundRobin([FakeTransport(), FakeTransport()]).attempts(timeout=60)
    pauses = [attempts.pause(unavailable) for _ in range(5)]
    assert pauses[0::2] == [0.0] * 3
    assert FIRST_PAUSE <= pauses[1] <= 2 * FIRST_PAUSE <= pauses[3] <= 4 * FIRST_PAUSE
    with pytest.raises(ServerError, match="gone"):
        attempts.pause(unavailable)


def test_a_pause_lasts_between_half_of_its_longest_and_all_of_it() -> None:
    """By chance, so that many clients do not come back together: a tenth of a second after the first round at most."""
    round_robin = RoundRobin([FakeTransport()])
    pauses = sorted(round_robin.attempts(timeout=60).pause(server_error("UNAVAILABLE", "gone")) for _ in range(300))
    assert 0.05 <= pauses[0] < 0.055
    assert 0.095 < pauses[-1] <= 0.1


def test_the_last_attempt_may_begin_at_the_very_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that ends with it is made, a longer one is an error at once; an attempt has a millisecond in any case."""
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    gone = server_error("UNAVAILABLE", "gone")
    for left, is_in_time in ((0.0, True), (-0.001, False)):
        attempts = RoundRobin([FakeTransport()] * 2).attempts(timeout=2)
        clock.now += 2 - left
        assert attempts.timeout == 0.0005
        if is_in_time:
            assert attempts.pause(gone) == 0
            assert attempts.timeout == 0.001
        else:
            with pytest.raises(ServerError, match=r"^DEADLINE_EXCEEDED: no server in time; last: UNAVAILABLE: gone \("):
                attempts.pause(gone)


def test_a_hung_server_is_asked_last_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is asked without a pause; then each has its turn again."""
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    hung, live = FakeTransport(), FakeTransport()
    round_robin = RoundRobin([hung, live])
    attempts = round_robin.attempts(timeout=10)
    assert (attempts.transport is hung, attempts.timeout) == (True, 5)
    clock.now += 5
    assert attempts.pause(server_error("DEADLINE_EXCEEDED", "hung")) == 0
    assert (attempts.transport is live, attempts.timeout) == (True, 5)
    clock.now += 29.5
    assert [round_robin.attempts(timeout=1).transport is live for _ in range(4)] == [True] * 4
    clock.now += 0.5
    assert [round_robin.attempts(timeout=1).transport is live for _ in range(4)] == [True, False, True, False]


def test_what_is_left_of_the_deadline_is_shared_by_the_servers_not_yet_asked() -> None:
    """A third, a half, all of it; in the second round each may take all of it."""
    attempts = RoundRobin([FakeTransport()] * 3).attempts(timeout=60)
    shares = []
    for _ in range(4):
        shares.append(attempts.timeout)
        attempts.pause(server_error("UNAVAILABLE", "gone"))
    assert shares == pytest.approx([20, 30, 60, 60], rel=0.1)


def test_several_servers_are_asked_in_turn_and_survive_one_dying() -> None:
    """Round robin over those that answer; the next one is asked at once."""
    first, second = FakeTransport(), FakeTransport()
    connection = _connection(first, second)
    image = np.zeros((1, 28, 28), np.uint8)
    connection.metadata()
    for _ in range(4):
        connection.predict(image)
    assert (len(first.asked), len(second.asked)) == (2, 2)
    first.errors = [server_error("UNAVAILABLE", "died")] * 100
    for _ in range(4):
        connection.predict(image)
    assert (len(first.asked), len(second.asked)) == (2, 6)


class _Hung(FakeTransport):
    """Lets every deadline pass."""

    timeouts: list[float]

    def send(self, request: Any, timeout: float) -> Any:
        self.timeouts = [*getattr(self, "timeouts", []), timeout]
        raise server_error("DEADLINE_EXCEEDED", "hung")


def test_a_hung_server_is_passed_over_within_the_deadline_and_then_asked_last() -> None:
    """It gets half of the deadline, once; alone, or with its like, it ends in its own error."""
    hung, live = _Hung(), FakeTransport()
    connection = _connection(hung, live, timeout=1)
    image = np.zeros((1, 28, 28), np.uint8)
    for _ in range(4):
        assert len(connection.predict(image)) == 1
    assert hung.timeouts == [pytest.approx(0.5, abs=0.1)]
    alone = _Hung()
    with pytest.raises(ServerError, match="DEADLINE_EXCEEDED: hung"):
        _connection(alone).status()
    assert alone.timeouts == [pytest.approx(1, abs=0.1)]
    with pytest.raises(ServerError, match="DEADLINE_EXCEEDED: hung"):
        _connection(_Hung(), _Hung()).status()


def test_leaving_the_context_closes_the_transports_even_after_an_error() -> None:
    """The server's error passes through unchanged."""
    transport = FakeTransport(errors=[server_error("NOT_FOUND", "Servable not found for request: Latest(m)")])
    with (
        pytest.raises(ServerError, match="NOT_FOUND: Servable not found") as excinfo,
        _connection(transport) as connection,
    ):
        connection.status()
    assert transport.closed
    assert excinfo.value.code == "NOT_FOUND"


class _Deadlines(FakeTransport):
    """Tells its metadata and states; everything else is a server's error. Keeps the deadline of each request."""

    def __init__(self, text: str = "") -> None:
        string = Signature({"x": TensorInfo("DT_STRING", (-1,))}, {}, "tensorflow/serving/classify")
        signatures = {"serving_default": FakeTransport().model_metadata.signatures["serving_default"], "c": string}
        super().__init__(model_metadata=Metadata("m", 1, signatures))
        self.timeouts: list[float] = []
        self.text = text

    def send(self, request: Any, timeout: float) -> Any:
        self.timeouts.append(timeout)
        if request is not None:
            raise server_error("INTERNAL", "enough")
        return request

    def diagnosis(self) -> str:
        return self.text


_EXAMPLES = [{"x": "a"}]
# Each method, what it is asked, and how many requests it sends on a new connection.
_METHODS: dict[str, tuple[tuple[Any, ...], dict[str, str], int]] = {
    "predict": ((_ZEROS[None],), {}, 2),
    "predict_lazily": ((_ZEROS[None],), {}, 2),
    "infer": (({"images": _ZEROS[None]},), {}, 2),
    "classify": ((_EXAMPLES,), {}, 2),
    "regress": ((_EXAMPLES,), {"signature_name": "c"}, 2),
    "multi_inference": ((_EXAMPLES, ["c"]), {}, 2),
    "exchange": ((PredictRequest(),), {}, 1),
    "status": ((), {}, 1),
    "metadata": ((), {}, 1),
    "metrics": ((), {}, 1),
}


@pytest.mark.parametrize("name", _METHODS)
@pytest.mark.parametrize("timeout", [3, None])
def test_a_calls_deadline_is_that_of_each_of_its_requests(name: str, timeout: float | None) -> None:
    """That of the metadata too; without one it is the connection's."""
    arguments, options, count = _METHODS[name]
    transport = _Deadlines()
    with contextlib.suppress(ServerError):
        getattr(_connection(transport, timeout=60), name)(*arguments, **options, timeout=timeout)
    assert transport.timeouts == [pytest.approx(timeout or 60, rel=0.2)] * count

    class Awaited(_Deadlines):
        async def send(self, request: Any, timeout: float) -> Any:
            return super().send(request, timeout)

    later = Awaited()

    async def ask() -> None:
        connection = AsyncConnection([later], ModelSpec(), timeout=60)
        await getattr(connection, name)(*arguments, **options, timeout=timeout)

    with contextlib.suppress(ServerError):
        asyncio.run(ask())
    assert later.timeouts == [pytest.approx(timeout or 60, rel=0.2)] * count


def test_a_diagnosis_has_each_fault_once() -> None:
    """Of several servers; those that nothing is wrong with say nothing."""
    transports = [_Deadlines(text) for text in ("a", "", "b", "a")]
    assert _connection(*transports).diagnosis() == "a; b"
    assert asyncio.run(AsyncConnection(transports, ModelSpec()).diagnosis()) == "a; b"
    assert _connection(FakeTransport()).diagnosis() == ""


def test_closing_ends_all_connections() -> None:
    """To each of several servers."""
    transports = [FakeTransport() for _ in range(3)]
    _connection(*transports).close()
    assert [transport.closed for transport in transports] == [True] * 3

    class Awaited(FakeTransport):
        async def close(self) -> None:
            super().close()

    later = [Awaited() for _ in range(3)]
    asyncio.run(AsyncConnection(later, ModelSpec()).close())
    assert [transport.closed for transport in later] == [True] * 3


@pytest.mark.parametrize(
    ("servers", "security"),
    [
        (("grpc://192.0.2.1", "grpcs://192.0.2.2"), Security(server_name="x")),
        (("grpc://192.0.2.1",), Security(headers=(("a", "b"),))),
        (("grpc://192.0.2.1",), Security()),
        (("https://192.0.2.1",), None),
    ],
)
def test_tls_options_are_for_one_server_at_least(servers: tuple[str, ...], security: Security | None) -> None:
    """Headers go to any server."""
    connect(*servers, security=security).close()


def test_tls_options_without_tls_are_refused() -> None:
    """The error names the first server."""
    with pytest.raises(ClientUsageError) as raised:
        connect("grpc://192.0.2.1", "http://192.0.2.2", security=Security(server_name="x"))
    assert str(raised.value) == (
        "grpc://192.0.2.1:8500 has no TLS, which --tls-ca, --tls-certificate and --tls-server-name are for: "
        "name a server by grpcs:// or https://"
    )


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_deadline_is_above_zero(timeout: float) -> None:
    """Of both kinds of connection."""
    for function in (connect, aio.connect):
        with pytest.raises(ClientUsageError) as raised:
            function(timeout=timeout)
        assert str(raised.value) == f"a deadline of {timeout:g} s cannot be met: --timeout takes seconds above 0"
    connect(timeout=1e-9).close()
