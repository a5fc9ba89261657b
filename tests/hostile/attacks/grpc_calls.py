"""gRPC messages that cost more than they weigh."""

from __future__ import annotations

import functools
import gzip
import itertools
from collections.abc import Sequence

from serving.apis.messages import ClassificationRequest, MultiInferenceRequest, PredictRequest
from tests.hostile.attacks import Steps, Target, attack
from tests.hostile.attacks.connections import HELLO
from tests.hostile.attacks.crowd import Crowd
from tests.hostile.attacks.grpc_frames import PREDICT, data_frames
from tests.support import http2_peer as http2
from tests.support.asking import predict_request

CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
MULTI_INFERENCE = "/tensorflow.serving.PredictionService/MultiInference"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
MILLION = 1_000_000


def unary(number: int, path: str, data: bytes, *, packed: bool = False) -> bytes:
    """The frames of a call. packed: by gzip already."""
    headers = http2.begin(number, path, grpc_encoding="gzip") if packed else http2.begin(number, path)
    return headers + data_frames(number, http2.message(data, int(packed)), ends=True)


def field(number: int, data: bytes) -> bytes:
    """A field of protobuf that has a length."""
    size, length = len(data), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _call_in_turn(target: Target, calls: Sequence[bytes], seconds: float) -> Steps:
    """Makes calls, each over a connection of its own, and reads what comes."""
    crowd = Crowd(target.grpc)
    try:
        for call in itertools.cycle(calls):
            if len(crowd) >= 8:
                crowd.drop(next(iter(crowd)))
            crowd.open(HELLO + call)
            for _ in range(max(1, int(seconds / 0.02))):
                crowd.pump()
                yield 0.02
    finally:
        crowd.close()


@functools.cache
def _dear_messages() -> Sequence[bytes]:
    spec = PredictRequest()
    spec.model_spec.name = "half_plus_two"
    name = spec.SerializeToString()

    def tensor(data: bytes) -> bytes:
        return name + field(2, field(1, b"x") + field(2, data))

    nested = b""
    for _ in range(90):
        nested = field(1, nested)
    messages = [
        (PREDICT, name + b"\x12\x00" * 4 * MILLION),
        (PREDICT, name + b"".join(field(2, field(1, b"%d" % n) + b"\x12\x00") for n in range(300_000))),
        (PREDICT, tensor(b"\x08\x07" + b"\x42\x00" * 4 * MILLION)),
        (PREDICT, tensor(b"\x08\x01" + field(2, b"\x12\x00" * 2 * MILLION))),
        (PREDICT, tensor(b"\x08\x01" + b"\x2d\0\0\0\0" * 2 * MILLION)),
        (PREDICT, tensor(b"\x08\x01" + field(5, bytes(4 * 2 * MILLION)))),
        (PREDICT, name + b"\x1a\x01a" * 3 * MILLION),
        (PREDICT, b"\x0b" * MILLION),
        (PREDICT, b"\x98\x06\x01" * 3 * MILLION),
        (CLASSIFY, name + field(2, field(1, b"\x0a\x00" * 4 * MILLION))),
        (CLASSIFY, name + field(2, field(1, nested * 10_000))),
        (MULTI_INFERENCE, b"\x0a\x00" * 4 * MILLION),
        (METADATA, name + b"\x12\x00" * 4 * MILLION),
    ]
    return [unary(1, path, data) for path, data in messages]


@attack
def dear_messages(target: Target) -> Steps:
    """13 kinds of gRPC messages of some MB: millions of empty inputs, strings, dimensions, examples, tasks."""
    return _call_in_turn(target, _dear_messages(), 0.15)


@functools.cache
def _packed_messages() -> Sequence[bytes]:
    spec = PredictRequest()
    spec.model_spec.name = "half_plus_two"
    name = spec.SerializeToString()
    messages = [bytes(2**28), name + b"\x12\x00" * 40 * MILLION, name + field(9, bytes(200 * MILLION))]
    return [unary(1, PREDICT, gzip.compress(data, 6), packed=True) for data in messages]


@attack
def packed_messages(target: Target) -> Steps:
    """gRPC messages of 80 to 260 KB of gzip that become 80 to 268 MB."""
    return _call_in_turn(target, _packed_messages(), 0.4)


@functools.cache
def _many_tasks() -> Sequence[bytes]:
    tasks = MultiInferenceRequest()
    classify = ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "tf1", "classify_x_to_y"
    for request in (tasks, classify):
        for _ in range(20_000 if request is classify else 1):
            example = request.input.example_list.examples.add()
            example.features.feature["x"].float_list.value.append(0.5)
    for number in range(5000):
        task = tasks.tasks.add()
        task.model_spec.name, task.model_spec.signature_name = "tf1", "classify_x_to_y"
        task.method_name = "tensorflow/serving/classify" if number else "tensorflow/serving/regress"
    return [
        unary(1, MULTI_INFERENCE, tasks.SerializeToString()),
        unary(1, CLASSIFY, classify.SerializeToString()),
    ]


@attack
def many_tasks(target: Target) -> Steps:
    """MultiInference with 5,000 tasks, and Classify with 20,000 examples."""
    return _call_in_turn(target, _many_tasks(), 0.3)


@functools.cache
def _large_tensors() -> Sequence[bytes]:
    import numpy as np

    rows = np.zeros(4 * MILLION, np.float32)
    return [unary(1, PREDICT, predict_request("half_plus_two", {"x": rows}).SerializeToString())]


@attack
def large_tensors(target: Target) -> Steps:
    """Right requests of 16 MB each, whose answers have 32."""
    return _call_in_turn(target, _large_tensors(), 0.2)


@attack
def reflections(target: Target) -> Steps:
    """Reflection and metadata, 500 calls at a time from each of 4 connections, which never end their streams."""
    crowd = Crowd(target.grpc)
    number = itertools.count(1, 2)
    question = http2.message(field(4, b"tensorflow.serving.PredictionService"))
    try:
        while True:
            crowd.fill(4, lambda: HELLO)
            numbers = [next(number) for _ in range(50)]
            calls = b"".join(http2.begin(n, REFLECTION) + http2.frame(http2.DATA, 0, n, question) for n in numbers)
            for connection in crowd:
                if crowd.is_idle(connection):
                    crowd.send(connection, calls)
            crowd.pump()
            yield 0.1
    finally:
        crowd.close()
