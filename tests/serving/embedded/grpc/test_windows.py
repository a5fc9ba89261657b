"""Answers under a peer's flow control: windows of every size, readers of every speed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import h2.exceptions
import pytest

from serving.embedded.grpc import outbox as grpc_outbox
from tests.support.http2_peer import (
    DATA,
    END_HEADERS,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    Client,
    Endpoint,
    Frame,
    Peer,
    block,
    call,
    endpoint,
    frame,
    message,
    pieces,
    request,
    settings,
    window_update,
)
from tests.support.live import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    """Connections with the methods of the tests."""
    with endpoint() as made:
        yield made


def data_of(frames: list[Frame], number: int) -> list[int]:
    """The lengths of a stream's DATA frames."""
    return [len(found.payload) for found in frames if (found.kind, found.number) == (DATA, number)]


@pytest.mark.parametrize("window", [1, 5, 16384, 65535, 2**31 - 1])
def test_answers_fit_every_window(server: Endpoint, window: int) -> None:
    """A client that counts bytes finds no frame beyond what it has opened."""
    size = 3000 if window < 100 else 300_000
    with Client(server.address, INITIAL_WINDOW_SIZE=window) as client:
        assert client.ask(str(size).encode(), "/t/Big").data == message(bytes(size))


def test_a_large_message_goes_both_ways(server: Endpoint) -> None:
    """20 MB, through windows of 64 KiB."""
    data = bytes(range(250)) * 80_000
    with Client(server.address) as client:
        assert client.ask(data).data == message(data)


def test_frames_are_as_long_as_the_peer_allows(server: Endpoint) -> None:
    """16 KiB, until its SETTINGS say otherwise."""
    with Peer(server.address, (4, 2**20)) as peer:
        peer.send(window_update(0, 2**20), call(1, b"40000", "/t/Big"))
        assert data_of([peer.until(DATA, 1) for _ in range(3)], 1) == [16384, 16384, 40005 - 2 * 16384]

        peer.send(settings((5, 20000)), call(3, b"40000", "/t/Big"))
        assert data_of([peer.until(DATA, 3) for _ in range(3)], 3) == [20000, 20000, 5]


def test_a_smaller_window_makes_those_of_open_streams_negative(server: Endpoint) -> None:
    """Nothing is sent until they are positive again (RFC 9113, section 6.9.2)."""
    with Peer(server.address, (4, 1000)) as peer:
        peer.send(call(1, b"1500", "/t/Big"))
        assert len(peer.until(DATA, 1).payload) == 1000

        peer.send(settings((4, 100)), window_update(1, 900))
        assert data_of(peer.ping(), 1) == []
        peer.send(window_update(1, 1))
        assert data_of(peer.ping(), 1) == [1]
        peer.send(settings((4, 600)))
        assert data_of(peer.ping(), 1) == [500]
        peer.send(window_update(1, 4))
        assert peer.answer(1).status == 0


def test_the_connections_window_is_shared_in_turns(server: Endpoint) -> None:
    """Two large answers come in alternating frames, and each WINDOW_UPDATE is used up."""
    with Peer(server.address, (4, 2**20)) as peer:
        peer.send(call(1, b"100000", "/t/Big"), call(3, b"100000", "/t/Big"))
        first = sum(len(peer.until(DATA, 1).payload) for _ in range(3))
        second = data_of(peer.ping(), 3)
        assert first + sum(second) <= 65535

        peer.send(window_update(0, 3 * 16384))
        more = [found.number for found in peer.ping() if found.kind == DATA]

        assert len(more) >= 3
        assert {1, 3} == set(more)
        assert all(number != following for number, following in itertools.pairwise(more))


def test_a_stream_without_window_holds_up_no_other(server: Endpoint) -> None:
    """Others are answered at once, and the one when its window opens."""
    with Peer(server.address, (4, 0)) as peer:
        peer.send(call(1, b"1000", "/t/Big"), call(3, b"x"), window_update(3, 100))

        assert peer.answer(3).data == message(b"x")
        peer.send(window_update(1, 2000))
        assert peer.answer(1).data == message(bytes(1000))


def test_statuses_need_no_window(server: Endpoint) -> None:
    """An error is told with windows of 0, beside an answer that waits."""
    with Peer(server.address, (4, 0)) as peer:
        peer.send(call(1, b"1000", "/t/Big"), call(3, path="/t/None"), call(5, _method="GET"))

        assert peer.answer(3).status == 12
        assert peer.answer(5).headers == {":status": "405"}


def test_padding_counts_in_windows(server: Endpoint) -> None:
    """The server opens its window again by all that came: its padding too."""
    whole = 2**30
    with Peer(server.address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, block(request())))
        connection = server.connection(peer.socket)
        server.run(lambda: connection._refill(whole - 99))
        assert peer.ping() == []

        peer.send(frame(DATA, PADDED, 1, b"\x63" + bytes(99)))

        assert peer.ping() == [Frame(8, 0, 0, (whole + 1).to_bytes(4, "big"))]


def test_answers_that_nobody_reads_are_bounded(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer without a window that asks on and on is told RESOURCE_EXHAUSTED; once it reads, all goes on."""
    monkeypatch.setattr(grpc_outbox, "_MAX_WAITING_BYTES", 50_000)
    monkeypatch.setattr(grpc_outbox, "_MAX_WAITING", 3)
    with Peer(server.address, (4, 0)) as peer:
        for number in range(1, 9, 2):
            peer.send(call(number, b"20000", "/t/Big"))
            peer.until(HEADERS, number)
            peer.ping()
        peer.send(call(11, b"20000", "/t/Big"))
        assert peer.answer(11).status == 8

        for number in range(1, 9, 2):
            peer.send(window_update(0, 20005), window_update(number, 20005))
            assert peer.answer(number).data == message(bytes(20000))
        peer.send(call(13, b"", "/t/Echo"), window_update(13, 5))
        assert peer.answer(13).status == 0


def test_calls_that_are_given_up_free_what_waits_for_them(server: Endpoint) -> None:
    """Nothing of the answer is kept, and nothing of it sent."""
    with Peer(server.address, (4, 0)) as peer:
        peer.send(call(1, b"30000", "/t/Big"))
        peer.until(HEADERS, 1)
        outbox = server.connection(peer.socket)._outbox
        assert server.run(lambda: (outbox._waiting_bytes > 30000, len(outbox._waiting))) == (True, 1)

        peer.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")), settings((4, 65535)))

        assert data_of(peer.ping(), 1) == []
        assert server.run(lambda: (outbox._waiting_bytes, len(outbox._waiting), len(outbox._ends))) == (0, 0, 0)


def test_waiting_bytes_are_counted_back_to_nothing(server: Endpoint) -> None:
    """Whatever way an answer went."""
    with Client(server.address, INITIAL_WINDOW_SIZE=1000) as client:
        for size in (1, 995, 996, 50_000):
            assert client.ask(str(size).encode(), "/t/Big").status == 0
        outbox = server.connection(client.socket)._outbox
        assert server.run(lambda: (outbox._waiting_bytes, len(outbox._waiting), len(outbox._turns))) == (0, 0, 0)


def test_a_peer_that_does_not_read_is_not_read_from(server: Endpoint) -> None:
    """A flood of PINGs fills the peer's side of the socket, not the server's memory; it is answered when it reads."""
    piece = frame(PING, 0, 0, bytes(8)) * 1000
    with Peer(server.address) as peer:
        peer.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                sent += peer.socket.send(piece)
        transport = server.connection(peer.socket)._transport
        assert server.run(transport.get_write_buffer_size) < 2**22
        peer.socket.settimeout(30)
        whole = sent // 17
        assert len(peer.read_bytes(whole * 17)) == whole * 17
        peer.send(piece[sent % 17 : 17] if sent % 17 else b"", call(1, b"still there"))
        assert peer.answer(1).data == message(b"still there")


def test_a_stream_that_sends_for_ever_waits_for_its_reader(server: Endpoint) -> None:
    """One message is held while the window is closed; each that is read lets the next come."""
    with Peer(server.address, (4, 1005)) as peer:
        peer.send(call(1, path="/t/Endless"))
        assert len(peer.until(DATA, 1).payload) == 1005
        assert data_of(peer.ping(), 1) == []
        connection = server.connection(peer.socket)
        assert server.run(lambda: len(connection._calls.get(1).pending)) == 1

        peer.send(window_update(1, 2 * 1005))
        assert data_of([peer.until(DATA, 1) for _ in range(2)], 1) == [1005, 1005]


def test_a_window_of_one_byte_costs_little(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WINDOW_UPDATE of one stream looks at no other, however many wait."""
    looked = []
    room = grpc_outbox.Outbox._room
    monkeypatch.setattr(grpc_outbox.Outbox, "_room", lambda box, stream: looked.append(stream) or room(box, stream))
    with Peer(server.address, (4, 0)) as peer:
        numbers = range(1, 401, 2)
        peer.send(*(call(number, b"100", "/t/Big") for number in numbers))
        for number in numbers:
            peer.until(HEADERS, number)
        looked.clear()

        peer.send(*[window_update(1, 1)] * 50)

        assert data_of(peer.ping(), 1) == [1] * 50
        assert len(looked) <= 200


def test_a_slow_reader_gets_everything(server: Endpoint) -> None:
    """The server's own buffer stays small meanwhile."""
    with Client(server.address, INITIAL_WINDOW_SIZE=2**31 - 1) as client:
        client.h2.increment_flow_control_window(2**30)
        client.flush()
        numbers = [client.begin(b"8000000", "/t/Big") for _ in range(3)]
        transport = server.connection(client.socket)._transport
        wait_until(lambda: server.run(transport.get_write_buffer_size) > 2**20)
        assert server.run(transport.get_write_buffer_size) < 2**22

        sizes = dict.fromkeys(numbers, 0)
        while any(size < 8_000_005 for size in sizes.values()):
            for event in client.receive():
                if isinstance(event, h2.events.DataReceived):
                    sizes[event.stream_id] += len(event.data)
        assert set(sizes.values()) == {8_000_005}


def test_pieces_of_any_size_make_a_message(server: Endpoint) -> None:
    """DATA frames of one byte, and of many messages' bytes."""
    with Peer(server.address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, block(request())))
        peer.send(*(frame(DATA, 0, 1, piece) for piece in pieces(message(b"x" * 100), 1)), frame(DATA, 1, 1))
        assert peer.answer(1).data == message(b"x" * 100)

        whole = b"".join(message(bytes([number])) for number in range(50))
        peer.send(frame(HEADERS, END_HEADERS, 3, block(request("/t/EchoAll"))), frame(DATA, 1, 3, whole))
        assert peer.answer(3).data == whole


def test_empty_data_frames_are_not_kept(server: Endpoint) -> None:
    """CVE-2019-9518: they cost no memory."""
    with Peer(server.address) as peer:
        peer.send(frame(HEADERS, END_HEADERS, 1, block(request())), *[frame(DATA, 0, 1)] * 10_000)
        peer.ping()
        connection = server.connection(peer.socket)
        assert server.run(lambda: len(connection._calls.get(1).reader._parts)) == 0


def test_only_the_peers_own_rules_end_its_streams(server: Endpoint) -> None:
    """h2 as the judge of a mixed load: any frame of the server's that breaks a rule raises here."""
    with Client(server.address, INITIAL_WINDOW_SIZE=500, HEADER_TABLE_SIZE=0, MAX_FRAME_SIZE=16384) as client:
        numbers = [client.begin(b"x" * 400) for _ in range(20)]
        numbers += [client.begin(b"2000", "/t/Big") for _ in range(5)]
        ended: set[int] = set()
        try:
            while len(ended) < len(numbers):
                ended |= {e.stream_id for e in client.receive() if isinstance(e, h2.events.StreamEnded)}
        except h2.exceptions.ProtocolError as error:
            raise AssertionError("the server broke a rule") from error
