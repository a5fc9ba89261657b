"""Many images: in order, in batches, with a bounded amount of work at hand."""

from __future__ import annotations

import functools
import itertools
import random
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from client.connection import Connection
from client.errors import ImageError, ServerError, server_error
from client.pictures.batch import Batch
from client.pictures.sources import Block
from client.pipeline import answers, in_order
from client.transports.fake import FakeTransport
from client.types import Call, Metadata, ModelSpec, Output, Signature, TensorInfo


def _block(index: int) -> Block:
    def load() -> Batch:
        time.sleep(random.random() / 500)
        if index % 10 == 7:
            raise ImageError(f"{index}: bad")
        return Batch("DT_UINT8", bytes([index % 256]) * 784)

    return Block([str(index)], load)


class _Echo(FakeTransport):
    """Answers with the image's first pixel as the class, after a while that differs."""

    def outputs(self, call: Call) -> dict[str, Output]:
        self.asked.append(call)
        time.sleep(random.random() / 100)
        content = call.inputs["images"].content
        pixels = [content[at] for at in range(0, len(content), 784)]
        values = [float(pixel % 10 == class_id) for pixel in pixels for class_id in range(10)]
        return {"probabilities": Output((len(pixels), 10), values)}


def test_bad_pictures_without_end_are_reported_as_they_come() -> None:
    """A folder with nothing but bad pictures is not read to its end before the first error."""

    def load() -> Batch:
        raise ImageError("bad")

    endless = (Block([str(index)], load) for index in itertools.count())
    results = answers(Connection([_Echo()], ModelSpec()), endless, batch_size=4, concurrency=2)
    assert [str(next(results).error) for _ in range(50)] == ["bad"] * 50
    results.close()


def test_answers_come_in_the_order_of_the_input_whatever_the_concurrency() -> None:
    """Bad images keep their place, each image gets its own answer, batches are full."""
    transport = _Echo()
    connection = Connection([transport], ModelSpec())
    results = list(answers(connection, map(_block, range(200)), batch_size=16, concurrency=8))
    assert [answer.name for answer in results] == [str(index) for index in range(200)]
    for index, answer in enumerate(results):
        if index % 10 == 7:
            assert str(answer.error) == f"{index}: bad"
        else:
            assert answer.prediction is not None
            assert answer.prediction.class_id == index % 10
            assert answer.pixels == bytes([index]) * 784
    sizes = [call.inputs["images"].shape[0] for call in transport.asked]
    assert (sum(sizes), max(sizes), len(sizes)) == (180, 16, 12)


def test_every_batch_is_full_but_the_last() -> None:
    """Pairs, five images a batch: two pairs, whichever batch it is, and one is left."""
    transport = FakeTransport()
    pairs = (Block([f"{index}a", f"{index}b"], lambda: Batch("DT_UINT8", bytes(2 * 784))) for index in range(7))
    assert len(list(answers(Connection([transport], ModelSpec()), pairs, batch_size=5, concurrency=1))) == 14
    assert [call.inputs["images"].shape[0] for call in transport.asked] == [4, 4, 4, 2]


def test_images_of_two_dtypes_are_never_in_one_batch() -> None:
    """Pixels between floats: each goes as what it is, and in its place."""
    signature = Signature({"images": TensorInfo("DT_FLOAT", (-1, 28, 28))}, {}, "")
    transport = FakeTransport(model_metadata=Metadata("m", 1, {"serving_default": signature}))
    white, half = Batch("DT_UINT8", b"\xff" * 784), Batch("DT_FLOAT", struct.pack("<784f", *[0.5] * 784))
    batches = [white, white, half, white, half, half]
    blocks = (Block([str(index)], lambda batch=batch: batch) for index, batch in enumerate(batches))  # type: ignore[misc]

    results = list(answers(Connection([transport], ModelSpec()), blocks, batch_size=16, concurrency=1))

    assert [answer.name for answer in results] == [str(index) for index in range(6)]
    assert [answer.pixels[0] for answer in results] == [255, 255, 128, 255, 128, 128]
    sent = [struct.unpack("<f", call.inputs["images"].content[:4])[0] for call in transport.asked]  # type: ignore[arg-type]
    assert [call.inputs["images"].shape[0] for call in transport.asked] == [2, 1, 1, 2]
    assert sent == [1.0, 0.5, 1.0, 0.5]


def test_work_is_bounded_so_that_a_stream_without_end_is_answered() -> None:
    """No more of the input is read than the window holds."""
    count = 0

    def endless() -> Iterator[Block]:
        nonlocal count
        while True:
            count += 1
            yield _block(0)

    results = answers(Connection([_Echo()], ModelSpec()), endless(), batch_size=4, concurrency=2)
    for _ in range(20):
        next(results)
    assert count < 60
    results.close()


def test_no_more_is_read_ahead_when_blocks_are_whole_batches() -> None:
    """An array's blocks are; the window counts their images."""
    count = 0

    def rows() -> Iterator[Block]:
        nonlocal count
        while True:
            count += 1
            yield Block([f"[{row}]" for row in range(100)], lambda: Batch("DT_UINT8", bytes(100 * 784)))

    results = answers(Connection([FakeTransport()], ModelSpec()), rows(), batch_size=100, concurrency=2)
    next(results)
    assert count < 10
    results.close()


def test_a_servers_error_ends_it() -> None:
    """Raised to the caller, not swallowed by a thread."""
    transport = _Echo()
    connection = Connection([transport], ModelSpec())
    connection.metadata()
    transport.errors = [server_error("INTERNAL", "broken")]
    with pytest.raises(ServerError, match="broken"):
        list(answers(connection, map(_block, range(5))))


def test_in_order_never_has_more_than_the_window_at_work() -> None:
    """Counted while it runs."""
    at_work = most = 0
    lock = threading.Lock()

    def work(item: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.001)
        with lock:
            at_work -= 1
        return item * item

    with ThreadPoolExecutor(8) as pool:
        assert list(in_order(pool, work, range(50), window=3)) == [item * item for item in range(50)]
    assert most <= 3


@pytest.mark.parametrize(
    ("batch_size", "concurrency", "rows", "is_bad", "count"),
    [
        # Eight pictures are being decoded, and four groups of four are on their way.
        (4, 2, 1, False, 7 + 4 * 4),
        (4, 1, 1, False, 7 + 2 * 4),
        (1, 1, 1, False, 1 + 2),
        # A group ends with sixteen bad ones.
        (4, 1, 1, True, 7 + 2 * 16),
        # Blocks that are whole batches: two are being read.
        (100, 2, 100, False, 1 + 4),
        (100, 1, 150, False, 1 + 2),
    ],
)
def test_what_is_read_before_the_first_answer(
    batch_size: int, concurrency: int, rows: int, is_bad: bool, count: int
) -> None:
    """Twice what is sent at a time, and twice a batch: a stream's end need not be known."""
    read = 0

    def load() -> Batch:
        if is_bad:
            raise ImageError("bad")
        return Batch("DT_UINT8", bytes(rows * 784))

    def blocks() -> Iterator[Block]:
        nonlocal read
        while True:
            read += 1
            yield Block([f"{row}" for row in range(rows)], load)

    connection = Connection([FakeTransport()], ModelSpec())
    results = answers(connection, blocks(), batch_size=batch_size, concurrency=concurrency)
    next(results)
    assert read == count
    results.close()


def test_pictures_are_decoded_by_as_many_threads_as_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """And sent by as many as there are requests in flight: each needs all others."""
    monkeypatch.setattr("client.pipeline.os.cpu_count", lambda: 3)
    decoding, sending = threading.Barrier(3, timeout=10), threading.Barrier(2, timeout=10)

    def load() -> Batch:
        decoding.wait()
        return Batch("DT_UINT8", bytes(784))

    class Meeting(FakeTransport):
        def outputs(self, call: Call) -> dict[str, Output]:
            sending.wait()
            return super().outputs(call)

    blocks = (Block([str(index)], load) for index in range(12))
    results = answers(Connection([Meeting()], ModelSpec()), blocks, batch_size=3, concurrency=2)
    assert [answer.name for answer in results] == [str(index) for index in range(12)]
    monkeypatch.setattr("client.pipeline.os.cpu_count", lambda: None)
    assert len(list(answers(Connection([FakeTransport()], ModelSpec()), [_block(0)]))) == 1


def test_what_has_not_begun_when_it_is_closed_is_not_done() -> None:
    """What is at work comes to its end."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> int:
        begun.set()
        if item:
            assert go_on.wait(10)
        done.append(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(9), window=4)
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]  # it is a generator
        go_on.set()
    assert done in ([0], [0, 1])


def test_an_item_fills_as_much_of_the_window_as_it_is_large() -> None:
    """Whatever is taken makes room."""
    begun: list[int] = []

    def items() -> Iterator[int]:
        for size in (3, 1, 1, 5, 1, 1, 1):
            begun.append(size)
            yield size

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, lambda item: item, items(), window=5, size=lambda item: item)
        counts = []
        for _ in range(7):
            next(results)
            counts.append(len(begun))
    assert counts == [3, 4, 4, 4, 7, 7, 7]


def test_a_batch_is_sent_to_the_signature_that_was_named() -> None:
    """Each answer has its own pixels, whatever the dtype that is sent."""
    signature = Signature({"images": TensorInfo("DT_FLOAT", (-1, 28, 28))}, {}, "")
    transport = FakeTransport(model_metadata=Metadata("m", 1, {"floats": signature}))
    white, black = Batch("DT_UINT8", b"\xff" * 784), Batch("DT_UINT8", bytes(784))
    blocks = [Block(["a"], lambda: white), Block(["b"], lambda: black)]
    results = list(answers(Connection([transport], ModelSpec()), blocks, signature_name="floats"))
    assert [(answer.name, answer.pixels) for answer in results] == [("a", b"\xff" * 784), ("b", bytes(784))]
    [call] = transport.asked
    assert (call.signature_name, call.inputs["images"].shape) == ("floats", (2, 28, 28))


def test_single_pictures_fill_a_batch_too() -> None:
    """From the first one on; a larger block stays whole."""
    transport = FakeTransport()
    batches = [Batch("DT_UINT8", bytes(size * 784)) for size in [1] * 9 + [7, 1]]
    blocks = [Block(["it"] * batch.count, functools.partial(Batch.of, batch)) for batch in batches]
    assert len(list(answers(Connection([transport], ModelSpec()), blocks, batch_size=4, concurrency=1))) == 17
    assert [call.inputs["images"].shape[0] for call in transport.asked] == [4, 4, 1, 7, 1]
