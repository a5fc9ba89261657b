"""What waits on a gRPC peer: the bytes that it holds, when it gives way, and which connections go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.apis.status import Code
from serving.embedded.admission import Admission
from serving.embedded.admission.budget import Budget
from serving.embedded.admission.connections import Connections
from serving.embedded.grpc.options import ConnectionOptions
from serving.embedded.grpc.stream import Stream
from serving.embedded.limits import Limits
from tests.support.http2_peer import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PADDED,
    Peer,
    begin,
    block,
    call,
    frame,
    message,
    request,
    reset,
    settings,
    window_update,
)
from tests.support.http2_server import Memory, Simulated, SimulatedLoop, simulated_loop

LIMIT = 1_000_000


class Server(Memory):
    """A connection in memory with a budget of LIMIT bytes, whose clock is `now`."""

    def __init__(self, budget: Budget | None = None) -> None:
        super().__init__(budget=budget or Budget(LIMIT, lambda: self.now))


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    """A loop that fails the test when anything in it raised."""
    with simulated_loop() as loop:
        yield loop


def test_a_request_in_one_read_holds_nothing() -> None:
    """What is whole at once is the call's alone; so is nothing left once it is answered."""
    server = Server()
    peer = Peer(server)
    server.send(call(1, bytes(1000)))
    assert server.budget.used == 0
    assert peer.answer(1).data == message(bytes(1000))
    assert server.budget.used == 0


def test_what_has_come_of_a_message_is_held_and_what_was_announced_is_not() -> None:
    """Its bytes and a little more for its call; all of it is given back when the rest has come."""
    server = Server()
    peer = Peer(server)
    whole = message(bytes(200_000))
    peer.send(begin(1), frame(DATA, 0, 1, whole[:5]))
    assert 0 < server.budget.used < 5000
    peer.send(frame(DATA, 0, 1, whole[5:100_000]))
    assert 100_000 < server.budget.used < 105_000
    peer.send(frame(DATA, 1, 1, whole[100_000:]), window_update(1, 2**20), window_update(0, 2**20))
    assert peer.answer(1).data == whole
    assert server.budget.used == 0


@pytest.mark.parametrize("end", ["reset", "lose"])
def test_pieces_go_with_their_call(end: str) -> None:
    """When the peer cancels it, and when the connection ends."""
    server = Server()
    peer = Peer(server)
    peer.send(begin(1), frame(DATA, 0, 1, message(bytes(200_000))[:100_000]))
    stream = server.connection.calls.get(1)
    assert stream
    if end == "reset":
        peer.send(reset(1))
    else:
        server.connection.lose()
    assert (server.budget.used, stream.reader.waiting_bytes) == (0, 0)


def test_messages_beyond_the_budget_are_refused_one_by_one() -> None:
    """The one that does not fit gets RESOURCE_EXHAUSTED, with the flag; those that do go on."""
    server = Server()
    peer = Peer(server)
    for number in (1, 3):
        peer.send(begin(number), frame(DATA, 0, number, message(bytes(700_000))[:500_000]))
    answer = peer.answer(3)
    assert answer.status == Code.RESOURCE_EXHAUSTED
    assert "--max_bytes_in_flight" in answer.headers["grpc-message"]
    assert server.budget.used < 510_000


def test_a_stalled_message_gives_way_to_others() -> None:
    """Of another connection too: its peer is told, without having asked."""
    budget = Budget(LIMIT, lambda: clock.now)
    clock, other = Server(budget), Server(budget)
    stalled, peer = Peer(clock), Peer(other)
    stalled.send(begin(1), frame(DATA, 0, 1, message(bytes(700_000))[:600_000]))
    clock.now = 1.0
    peer.send(begin(1), frame(DATA, 0, 1, message(bytes(700_000))[:600_000]))
    assert clock.woken == 1
    assert stalled.answer(1).status == Code.RESOURCE_EXHAUSTED
    assert 600_000 < budget.used < 605_000


@pytest.mark.parametrize("sent", [b"", b"\0", message(bytes(10))[:7]], ids=["headers", "a byte", "a piece"])
def test_a_message_that_stalls_is_ended(sent: bytes) -> None:
    """Once nothing of it has come for the time of the flag, which its error names."""
    server = Server()
    peer = Peer(server)
    peer.send(begin(1), frame(DATA, 0, 1, sent), begin(3, "/t/Watch"))
    assert server.receive()
    server.now = 19.0
    server.budget.end_stalled(20.0)
    assert peer.rest() == []
    server.now = 20.0
    server.budget.end_stalled(20.0)
    answer = peer.answer(1)
    assert answer.status == Code.DEADLINE_EXCEEDED
    assert "--stall_timeout_seconds" in answer.headers["grpc-message"]
    assert server.connection.calls.get(3) is not None, "a streaming call between two messages waits for nothing"


def test_an_answer_that_nobody_reads_is_held_whole_until_its_last_byte() -> None:
    """Reading some of it frees nothing; reading none for too long ends the call."""
    server = Server()
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"400000", "/t/Big"), window_update(1, 300_000), window_update(0, 2**20))
    assert sum(len(each.payload) for each in peer.rest() if each.kind == DATA) == 300_000
    assert server.budget.used > 400_000
    server.now = 20.0
    server.budget.end_stalled(20.0)
    assert peer.answer(1).status == Code.DEADLINE_EXCEEDED
    assert server.budget.used == 0


def test_answers_beyond_the_budget_are_refused() -> None:
    """Three quarters of it may wait for readers."""
    server = Server()
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"700000", "/t/Big"), call(3, b"700000", "/t/Big"))
    assert peer.answer(3).status == Code.RESOURCE_EXHAUSTED
    peer.send(window_update(1, 2**20), window_update(0, 2**20))
    assert peer.answer(1).status == Code.OK
    assert server.budget.used == 0


def test_answers_to_a_peer_whose_transport_is_full_wait_in_the_budget(loop: SimulatedLoop) -> None:
    """However small they are, and however large its windows."""
    budget = Budget(0, loop.time)
    server = Simulated(loop, admission=Admission(Limits(), budget, Connections(0, 0, loop.time)))
    peer = Peer(server)
    peer.send(window_update(0, 2**30), settings((4, 2**30)), call(1, b"200000", "/t/Big"))
    assert not server.transport.reads
    used = budget.used
    assert used >= 2**16
    server.protocol.connection.calls.outbox.is_blocked = True
    assert peer.answer(1).status == Code.OK
    assert budget.used == 0


@pytest.mark.parametrize(
    "partial",
    [
        frame(HEADERS, 0, 1, block(request())),
        frame(HEADERS, 4, 1, bytes(500))[:300],
        frame(DATA, PADDED, 1, bytes(9))[:12],
    ],
    ids=["no END_HEADERS", "a piece of HEADERS", "a piece of padded DATA"],
)
def test_frames_that_do_not_end_are_hung_up_on(loop: SimulatedLoop, partial: bytes) -> None:
    """After --header_timeout_seconds, though a byte comes now and then; what is there of them is held meanwhile."""
    budget = Budget(0, loop.time)
    limits = Limits(header_timeout_seconds=5.0)
    server = Simulated(
        loop, ConnectionOptions(limits), admission=Admission(limits, budget, Connections(0, 0, loop.time))
    )
    peer = Peer(server)
    peer.send(partial)
    assert budget.used > 0
    loop.pass_time(4.9)
    assert server.is_open()
    loop.pass_time(0.2)
    assert not server.is_open()
    assert budget.used == 0


def test_a_header_block_that_drips_is_hung_up_on(loop: SimulatedLoop) -> None:
    """CONTINUATION by CONTINUATION: the time counts from the block's beginning."""
    limits = Limits(header_timeout_seconds=5.0)
    server = Simulated(loop, ConnectionOptions(limits))
    peer = Peer(server)
    peer.send(frame(HEADERS, 0, 1, b""))
    for _ in range(4):
        loop.pass_time(1.3)
        server.send(frame(CONTINUATION, 0, 1, b""))
    assert not server.is_open()
    assert peer.rest() == []


def test_too_many_connections_cost_strangers_and_idle_ones_their_seats(loop: SimulatedLoop) -> None:
    """One that never asked is closed, one that is idle gets a GOAWAY, one with a call under way stays."""
    admission = Admission(Limits(), Budget(0, loop.time), Connections(2, 0, loop.time))
    first, stranger = Simulated(loop, admission=admission), Simulated(loop, admission=admission)
    peer = Peer(first)
    peer.send(call(1, b"x"))
    assert peer.answer(1).status == Code.OK
    loop.pass_time(1.1)
    loop.pass_time(1.1)

    busy = Simulated(loop, admission=admission)
    loop.pass_time()
    assert (first.is_open(), stranger.is_open(), busy.is_open()) == (True, False, True)
    Peer(busy).send(call(1, b"", "/t/Wait"))

    third = Simulated(loop, admission=admission)
    loop.pass_time()
    assert peer.until_goaway().code == 0
    loop.pass_time(0.2)
    assert (first.is_open(), busy.is_open(), third.is_open()) == (False, True, True)
    Peer(third).send(call(1, b"", "/t/Wait"))

    assert not Simulated(loop, admission=admission).is_open(), "when all are busy, the new one goes"


def test_streaming_calls_of_a_connection_are_bounded() -> None:
    """Each is a task for as long as its client likes; a place is free again when one ends."""
    peer = Peer(Memory(ConnectionOptions(max_streaming_calls=2)))
    peer.send(*(begin(number, "/t/Watch") for number in (1, 3, 5)))
    assert peer.answer(5).status == Code.RESOURCE_EXHAUSTED
    peer.send(reset(1), begin(7, "/t/Watch"))
    assert peer.until(DATA, 7).payload == message(b"begun")


def test_one_connection_takes_its_turn(loop: SimulatedLoop) -> None:
    """Of thousands of requests in one read a few are taken at a time; all are answered in the end."""
    server = Simulated(loop)
    peer = Peer(server)
    server.protocol.data_received(b"".join(call(number, b"x") for number in range(1, 2001, 2)))
    assert 0 < server.protocol.connection.calls.last_number < 50
    loop.pass_time()
    assert {each.number for each in peer.rest() if each.kind == HEADERS} == set(range(1, 2001, 2))


def test_calls_that_give_way_are_noted_in_turns(loop: SimulatedLoop) -> None:
    """A large request may need the bytes of thousands: they are free at once, and their log is written bit by bit."""
    budget = Budget(LIMIT, loop.time)
    server = Simulated(loop, admission=Admission(Limits(), budget, Connections(0, 0, loop.time)))
    peer = Peer(server)
    peer.send(*(begin(number) + frame(DATA, 0, number, b"\0") for number in range(1, 601, 2)))
    assert server.under_way() == (300, 0)
    loop.pass_time(1.0)

    budget.charge(int(LIMIT * 0.9))
    loop.call_soon(loop.stop)
    loop.run_forever()

    assert server.under_way() == (0, 0)
    assert len(server.refused) == 64
    loop.pass_time()
    assert len(server.refused) == 300


def test_a_settings_flood_does_not_look_at_every_call_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are seen to once, when something is sent: 900 SETTINGS times 900 calls would hold up the server."""
    server = Memory()
    peer = Peer(server, (4, 0))
    peer.send(*(call(number, b"10", "/t/Big") for number in range(1, 201, 2)))
    peer.rest()
    outbox = server.connection.calls.outbox
    looks: list[int] = []
    enqueue = outbox._enqueue

    def look(stream: Stream) -> None:
        looks.append(stream.number)
        enqueue(stream)

    monkeypatch.setattr(outbox, "_enqueue", look)
    server.send(settings((4, 20)) * 500)
    data = [each for each in peer.rest() if each.kind == DATA]
    assert len(data) == 100
    assert len(looks) < 500
    assert not [each for each in peer.rest() if each.kind == GOAWAY]


HEAD_BYTES = sum(len(name) + len(value) + 32 for name, value in request())


def test_a_call_that_waits_for_its_message_holds_its_headers_and_two_kibibytes() -> None:
    """With 64 bytes for each piece that has come; each is counted once."""
    server = Server()
    Peer(server)
    whole = message(bytes(1000))
    server.send(begin(1))
    assert server.budget.used == HEAD_BYTES + 2048
    server.send(frame(DATA, 0, 1, whole[:105]))
    assert server.budget.used == HEAD_BYTES + 2048 + 100 + 64
    server.send(frame(DATA, 0, 1, whole[105:205]) + frame(DATA, 0, 1, whole[205:305]))
    assert server.budget.used == HEAD_BYTES + 2048 + 300 + 3 * 64
    server.send(frame(DATA, 0, 1, whole[305:]))
    assert server.budget.used == HEAD_BYTES + 2048 + 1000
    server.send(frame(DATA, 1, 1))
    assert server.budget.used == 0


def test_messages_of_a_streaming_call_are_held_until_they_are_taken() -> None:
    """With its headers while there are any."""
    server = Server()
    Peer(server)
    size = HEAD_BYTES + len("EchoAll") - len("Echo") + 2048
    server.send(begin(1, "/t/EchoAll"))
    assert server.budget.used == 0
    server.send(frame(DATA, 0, 1, message(bytes(1000)) + message(bytes(500)) + message(bytes(100))[:55]))
    assert server.budget.used == size + 1550 + 64
    assert server.receive()
    assert server.budget.used == size + 50 + 64
    server.send(frame(DATA, 0, 1, bytes(50)))
    assert server.receive()
    assert server.budget.used == 0


def test_an_answer_that_waits_holds_its_message_and_a_kibibyte() -> None:
    """It is not ended as long as some of it is read now and then."""
    server = Server()
    peer = Peer(server, (4, 0))
    peer.send(call(1, b"1000", "/t/Big"))
    assert peer.rest()
    assert server.budget.used == 1000 + 1024
    for now in (19.0, 38.0):
        server.now = now
        server.budget.end_stalled(20.0)
        peer.send(window_update(1, 10))
        assert [len(each.payload) for each in peer.rest()] == [10]
    server.now = 58.0
    server.budget.end_stalled(20.0)
    assert peer.answer(1).status == Code.DEADLINE_EXCEEDED
    assert server.budget.used == 0


def test_what_is_there_of_a_frame_is_held_until_it_is_whole() -> None:
    """Its bytes and 64 for each piece; of a header block that goes on, its bytes and 64."""
    server = Server()
    Peer(server)
    data = block(request())
    headers = frame(HEADERS, 0, 1, data[:10])
    server.send(headers[:12])
    assert server.budget.used == 12 + 64
    server.send(headers[12:15])
    assert server.budget.used == 15 + 2 * 64
    server.send(headers[15:])
    assert server.budget.used == 10 + 64
    server.send(frame(CONTINUATION, 0, 1, data[10:20]))
    assert server.budget.used == 20 + 64
    server.send(frame(CONTINUATION, 4, 1, data[20:]) + frame(DATA, 1, 1, message(b"x")))
    assert server.budget.used == 0
    assert not server.connection.is_partial
    whole = call(3, b"x")
    server.send(whole[:5])
    server.send(whole[5:])
    assert server.budget.used == 0
    assert server.receive().count(message(b"x")) == 2


def test_the_time_of_a_frame_is_that_of_its_first_byte() -> None:
    """And so is that of a header block: its first frame's last."""
    server = Server()
    Peer(server)
    connection = server.connection
    assert connection.partial_since() is None
    headers = frame(HEADERS, 0, 1, block(request()))
    for now, piece, since in (
        (1.0, headers[:12], 1.0),
        (2.0, headers[12:20], 1.0),
        (3.0, headers[20:], 3.0),
        (4.0, frame(CONTINUATION, 0, 1), 3.0),
        (5.0, frame(CONTINUATION, 4, 1)[:4], 3.0),
        (6.0, frame(CONTINUATION, 4, 1)[4:], None),
        (7.0, b"\0", 7.0),
    ):
        server.now = now
        server.send(piece)
        assert connection.partial_since() == since


@pytest.mark.parametrize(
    "wrong", [frame(DATA, 0, 0, b"x"), frame(CONTINUATION, 4, 1, b"\xff\xff")], ids=["a rule", "the block"]
)
def test_a_connection_that_fails_holds_nothing_of_what_came(wrong: bytes) -> None:
    """Though a header block was not whole, or more has arrived than was taken."""
    server = Server()
    Peer(server)
    server.send(frame(HEADERS, 0, 1, bytes(1000)))
    assert server.budget.used == 1000 + 64
    server.send(wrong + frame(DATA, 0, 3, bytes(1000)) * 100)
    assert server.budget.used == 0
    assert (server.connection.closed, server.connection.has_more) == (True, False)


def test_a_header_block_that_does_not_fit_into_the_budget_ends_its_connection() -> None:
    """With the flag in the GOAWAY, as ENHANCE_YOUR_CALM."""
    budget = Budget(2000, lambda: 0.0)
    server = Server(budget)
    peer = Peer(server)
    peer.send(frame(HEADERS, 0, 1, bytes(1600)))
    goaway = peer.goaway()
    assert goaway.code == 11
    assert b"--max_bytes_in_flight is 2000" in goaway.payload
    assert budget.used == 0


def test_a_stalled_header_block_gives_way_to_others() -> None:
    """Its connection ends, and is woken for that; once it has ended nothing more is done to it."""
    server = Server()
    peer = Peer(server)
    peer.send(frame(HEADERS, 0, 1, bytes(1000)))
    server.now = 1.0
    server.budget.charge(900_000)
    assert (server.woken, server.budget.used) == (1, 900_000)
    goaway = peer.goaway()
    assert goaway.code == 11
    assert b"The message came to a halt" in goaway.payload


def test_sixteen_frames_are_taken_in_a_turn() -> None:
    """A header block of a kibibyte counts as one more."""

    def turns(data: bytes) -> int:
        server = Server()
        Peer(server)
        server.connection.receive_data(begin(1), 0.0)
        server.connection.receive_data(data, 0.0)
        count = 1
        while server.connection.has_more:
            count += 1
            server.connection.receive_more(0.0)
        return count

    empty = frame(DATA, 0, 1)
    assert [turns(empty * count) for count in (15, 16, 31, 32)] == [1, 2, 2, 3]
    large = frame(HEADERS, 0, 3, bytes(1023)) + frame(CONTINUATION, 0, 3, bytes(1024))
    assert [turns(large + frame(CONTINUATION, 0, 3) * count) for count in (12, 13)] == [1, 2]


def test_what_has_arrived_and_is_not_taken_is_held() -> None:
    """All of it, until the last turn."""
    server = Server()
    Peer(server)
    server.connection.receive_data(begin(1), 0.0)
    used = server.budget.used
    data = frame(DATA, 0, 1) * 20
    server.connection.receive_data(data, 0.0)
    assert server.connection.has_more
    assert server.budget.used == used + len(data)
    server.connection.receive_more(0.0)
    assert server.budget.used == used


def test_a_connection_that_is_lost_is_closed() -> None:
    """Nothing is taken of it any more."""
    server = Server()
    Peer(server)
    server.send(call(1, b"", "/t/Wait"))
    server.connection.lose()
    assert (server.connection.closed, len(server.connection.calls)) == (True, 0)
    server.connection.receive_data(call(3), 0.0)
    assert server.connection.calls.last_number == 1
