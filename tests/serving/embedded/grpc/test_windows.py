"""Answers under a peer's flow control: windows of every size, readers of every speed."""

from __future__ import annotations

import itertools

import h2.events
import h2.exceptions
import pytest

from serving.embedded.grpc import connection
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.outbox import Outbox
from serving.embedded.grpc.stream import Stream
from tests.support.http2_peer import (
    ACK,
    DATA,
    HEADERS,
    PADDED,
    PING,
    WINDOW_UPDATE,
    Client,
    Frame,
    Peer,
    begin,
    call,
    frame,
    message,
    pieces,
    reset,
    settings,
    window_update,
)
from tests.support.http2_server import Memory, Simulated, simulated_loop


def data_of(frames: list[Frame], number: int) -> list[int]:
    """The lengths of a stream's DATA frames."""
    return [len(each.payload) for each in frames if (each.kind, each.number) == (DATA, number)]


def waiting(server: Memory) -> tuple[int, int]:
    """The bytes that wait for a window, and of how many calls."""
    outbox = server.connection.calls.outbox
    return outbox._waiting_bytes, len(outbox._waiting)


@pytest.mark.parametrize("window", [1, 5, 16384, 65535, 2**31 - 1])
def test_answers_fit_every_window(window: int) -> None:
    """A client that counts bytes finds no frame beyond what it has opened."""
    size = 3000 if window < 100 else 300_000
    client = Client(Memory(), INITIAL_WINDOW_SIZE=window)

    assert client.ask(str(size).encode(), "/t/Big").data == message(bytes(size))


def test_a_large_message_goes_both_ways() -> None:
    """20 MB, through windows of 64 KiB."""
    data = bytes(range(250)) * 80_000

    assert Client(Memory()).ask(data).data == message(data)


def test_frames_are_as_long_as_the_peer_allows() -> None:
    """16 KiB, until its SETTINGS say otherwise."""
    peer = Peer(Memory(), (4, 2**20))
    peer.send(window_update(0, 2**20), call(1, b"40000", "/t/Big"))
    assert data_of([peer.until(DATA, 1) for _ in range(3)], 1) == [16384, 16384, 40005 - 2 * 16384]

    peer.send(settings((5, 20000)), call(3, b"40000", "/t/Big"))
    assert data_of([peer.until(DATA, 3) for _ in range(3)], 3) == [20000, 20000, 5]


def test_a_smaller_window_makes_those_of_open_streams_negative() -> None:
    """Nothing is sent until they are positive again (RFC 9113, section 6.9.2)."""
    peer = Peer(Memory(), (4, 1000))
    peer.send(call(1, b"1500", "/t/Big"))
    assert len(peer.until(DATA, 1).payload) == 1000

    peer.send(settings((4, 100)), window_update(1, 900))
    assert data_of(peer.rest(), 1) == []
    peer.send(window_update(1, 1))
    assert data_of(peer.rest(), 1) == [1]
    peer.send(settings((4, 600)))
    assert data_of(peer.rest(), 1) == [500]
    peer.send(window_update(1, 4))
    assert peer.answer(1).status == 0


def test_the_connections_window_is_shared_in_turns() -> None:
    """Two large answers come in alternating frames, and each WINDOW_UPDATE is used up."""
    peer = Peer(Memory(), (4, 2**20))
    peer.send(call(1, b"100000", "/t/Big"), call(3, b"100000", "/t/Big"))
    first = peer.rest()
    assert sum(data_of(first, 1)) + sum(data_of(first, 3)) == 65535

    peer.send(window_update(0, 3 * 16384))
    numbers = [each.number for each in peer.rest() if each.kind == DATA]

    assert len(numbers) >= 3
    assert {1, 3} == set(numbers)
    assert all(number != following for number, following in itertools.pairwise(numbers))


def test_a_stream_without_window_holds_up_no_other() -> None:
    """Others are answered at once, and the one when its window opens."""
    peer = Peer(Memory(), (4, 0))
    peer.send(call(1, b"1000", "/t/Big"), call(3, b"x"), window_update(3, 100))

    assert peer.answer(3).data == message(b"x")
    peer.send(window_update(1, 2000))
    assert peer.answer(1).data == message(bytes(1000))


def test_a_small_answer_does_not_overtake_what_waits_for_the_connections_window() -> None:
    """Or a peer that asks for small things would never get its large one."""
    peer = Peer(Memory(), (4, 2**20))
    peer.send(call(1, b"100000", "/t/Big"))
    assert sum(data_of(peer.rest(), 1)) == 65535

    peer.send(window_update(0, 100), call(3, b"x"))

    frames = peer.rest()
    assert (data_of(frames, 1), data_of(frames, 3)) == ([100], [])


def test_statuses_need_no_window() -> None:
    """An error is told with windows of 0, beside an answer that waits."""
    peer = Peer(Memory(), (4, 0))
    peer.send(call(1, b"1000", "/t/Big"), call(3, b"", "/t/None"), call(5, _method="GET"))

    assert peer.answer(3).status == 12
    assert peer.answer(5).headers == {":status": "405"}


def test_the_window_is_opened_again_by_all_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, not at it."""
    monkeypatch.setattr(connection, "_REFILL_BYTES", 200)
    peer = Peer(Memory())
    data = message(bytes(300))
    peer.send(begin(1), frame(DATA, 0, 1, data[:200]))
    assert peer.rest() == []

    peer.send(frame(DATA, 0, 1, data[200:201]))

    assert peer.rest() == [Frame(WINDOW_UPDATE, 0, 0, (201).to_bytes(4, "big"))]


def test_padding_counts_in_windows() -> None:
    """The server opens its window again by all that came: its padding too."""
    whole = 2**30
    server = Memory()
    peer = Peer(server)
    peer.send(begin(1))
    server.connection._unacknowledged = whole - 99
    assert peer.rest() == []

    peer.send(frame(DATA, PADDED, 1, b"\x63" + bytes(99)))

    assert peer.rest() == [Frame(WINDOW_UPDATE, 0, 0, (whole + 1).to_bytes(4, "big"))]


def test_answers_that_nobody_reads_are_bounded() -> None:
    """A peer without a window that asks on and on is told RESOURCE_EXHAUSTED; once it reads, all goes on."""
    peer = Peer(Memory(ConnectionOptions(max_waiting_bytes=50_000, max_waiting_calls=3)), (4, 0))
    for number in range(1, 9, 2):
        peer.send(call(number, b"20000", "/t/Big"))
        peer.until(HEADERS, number)
    peer.send(call(11, b"20000", "/t/Big"))
    assert peer.answer(11).status == 8

    for number in range(1, 9, 2):
        peer.send(window_update(0, 20005), window_update(number, 20005))
        assert peer.answer(number).data == message(bytes(20000))
    peer.send(call(13, b"", "/t/Echo"), window_update(13, 5))
    assert peer.answer(13).status == 0


@pytest.mark.parametrize(("calls", "status"), [(100, 0), (101, 8)])
def test_a_hundred_answers_may_wait_however_large(calls: int, status: int) -> None:
    """A few answers may be of any size."""
    peer = Peer(Memory(ConnectionOptions(max_waiting_bytes=0)), (4, 0))
    for number in range(1, 2 * calls, 2):
        peer.send(call(number, b"1", "/t/Big"))
        peer.until(HEADERS, number)
    last = 2 * calls + 1
    peer.send(call(last, b"1", "/t/Big"), window_update(0, 100), window_update(last, 100))
    assert peer.answer(last).status == status


def test_calls_that_are_given_up_free_what_waits_for_them() -> None:
    """Nothing of the answer is kept, and nothing of it sent."""
    server = Memory()
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"30000", "/t/Big"))
    peer.until(HEADERS, 1)
    size, calls = waiting(server)
    assert (size > 30000, calls) == (True, 1)

    peer.send(reset(1), settings((4, 65535)))

    assert data_of(peer.rest(), 1) == []
    assert waiting(server) == (0, 0)


def test_waiting_bytes_are_counted_back_to_nothing() -> None:
    """Whatever way an answer went."""
    server = Memory()
    client = Client(server, INITIAL_WINDOW_SIZE=1000)
    for size in (1, 995, 996, 50_000):
        assert client.ask(str(size).encode(), "/t/Big").status == 0

    assert waiting(server) == (0, 0)
    assert not server.connection.calls.outbox._queue


def test_a_peer_that_does_not_read_is_not_read_from() -> None:
    """A flood of PINGs fills the peer's side of the socket, not the server's memory; it is answered when it reads."""
    with simulated_loop() as loop:
        server = Simulated(loop)
        peer = Peer(server)
        sent = 0
        while len(server.transport.undelivered) < 2**21:
            server.send(frame(PING, 0, 0, bytes(8)) * 10_000)
            sent += 10_000
            assert len(server.transport.unread) < 2**22
        server.send(call(1, b"still there"))

        assert peer.read_bytes(sent * 17) == frame(PING, ACK, 0, bytes(8)) * sent
        assert peer.answer(1).data == message(b"still there")


def test_a_stream_that_sends_for_ever_waits_for_its_reader() -> None:
    """One message is held while the window is closed; each that is read lets the next come."""
    server = Memory()
    peer = Peer(server, (4, 1005))
    peer.send(begin(1, "/t/Endless"))
    assert data_of(peer.rest(), 1) == [1005]
    stream = server.connection.calls.get(1)
    assert stream
    assert len(stream.pending) == 1

    peer.send(window_update(1, 2 * 1005))
    assert data_of(peer.rest(), 1) == [1005, 1005]
    assert len(stream.pending) == 1


def test_a_handler_that_sends_for_ever_waits_for_its_reader() -> None:
    """With the largest windows, it is held up by what the peer has not read."""
    with simulated_loop() as loop:
        server = Simulated(loop)
        peer = Peer(server, (4, 2**31 - 1))
        peer.send(window_update(0, 2**31 - 1 - 65535), begin(1, "/t/Endless"))

        for _ in range(3):
            assert 2**16 < len(server.transport.unread) < 2**19
            server.transport.read()
            loop.pass_time()
        peer.send(reset(1))
        server.transport.read()
        loop.pass_time()
        assert server.under_way() == (0, 0)


def test_a_window_of_one_byte_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A WINDOW_UPDATE of one stream looks at no other, however many wait."""
    looks: list[Stream] = []
    room = Outbox._room

    def counted(outbox: Outbox, stream: Stream) -> int:
        looks.append(stream)
        return room(outbox, stream)

    monkeypatch.setattr(Outbox, "_room", counted)
    peer = Peer(Memory(), (4, 0))
    numbers = range(1, 401, 2)
    peer.send(*(call(number, b"100", "/t/Big") for number in numbers))
    assert len(peer.rest()) == len(numbers)
    looks.clear()

    sizes = []
    for _ in range(50):
        peer.send(window_update(1, 1))
        sizes += data_of(peer.rest(), 1)

    assert sizes == [1] * 50
    assert len(looks) <= 200


def test_a_slow_reader_gets_everything() -> None:
    """The server's own buffer stays small meanwhile."""
    with simulated_loop() as loop:
        server = Simulated(loop)
        client = Client(server, INITIAL_WINDOW_SIZE=2**31 - 1)
        client.h2.increment_flow_control_window(2**30)
        client.flush()
        numbers = [client.begin(b"8000000", "/t/Big") for _ in range(3)]
        assert 2**16 < len(server.transport.unread) < 2**19

        sizes = dict.fromkeys(numbers, 0)
        while any(size < 8_000_005 for size in sizes.values()):
            assert len(server.transport.unread) < 2**22
            for event in client.receive():
                if isinstance(event, h2.events.DataReceived):
                    sizes[event.stream_id] += len(event.data)
        assert set(sizes.values()) == {8_000_005}


def test_pieces_of_any_size_make_a_message() -> None:
    """DATA frames of one byte, and of many messages' bytes."""
    peer = Peer(Memory())
    peer.send(begin(1), *(frame(DATA, 0, 1, piece) for piece in pieces(message(b"x" * 100), 1)), frame(DATA, 1, 1))
    assert peer.answer(1).data == message(b"x" * 100)

    whole = b"".join(message(bytes([number])) for number in range(50))
    peer.send(begin(3, "/t/EchoAll"), frame(DATA, 1, 3, whole))
    assert peer.answer(3).data == whole


def test_empty_data_frames_are_not_kept() -> None:
    """CVE-2019-9518: they cost no memory."""
    server = Memory()
    peer = Peer(server)
    peer.send(begin(1), frame(DATA, 0, 1, b"\0\0"), *[frame(DATA, 0, 1)] * 10_000)

    assert peer.rest() == []
    stream = server.connection.calls.get(1)
    assert stream
    assert (stream.reader._prefix, stream.reader.waiting_bytes) == (b"\0\0", 0)


def test_only_the_peers_own_rules_end_its_streams() -> None:
    """h2 as the judge of a mixed load: any frame of the server's that breaks a rule raises here."""
    client = Client(Memory(), INITIAL_WINDOW_SIZE=500, HEADER_TABLE_SIZE=0, MAX_FRAME_SIZE=16384)
    numbers = [client.begin(b"x" * 400) for _ in range(20)]
    numbers += [client.begin(b"2000", "/t/Big") for _ in range(5)]
    ended: set[int | None] = set()
    try:
        while len(ended) < len(numbers):
            ended |= {event.stream_id for event in client.receive() if isinstance(event, h2.events.StreamEnded)}
    except h2.exceptions.ProtocolError as error:
        raise AssertionError("the server broke a rule") from error
