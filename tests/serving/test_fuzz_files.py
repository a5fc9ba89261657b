"""Bad files and messages are refused by the error that is theirs, whatever is in them."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from delivery.errors import SignatureError
from delivery.verification import PublicKey, signed_digests
from fashion_common.layout import MANIFEST_FILE
from fashion_common.tokens import parse_entries
from serving.apis import tensors
from serving.apis.messages import LogMetadata, PredictionLog, TensorProto
from serving.apis.recordings import Origin, RecordingError, exchange, has_inputs, read_recording
from serving.apis.tfrecord import framed
from serving.embedded.access.tokens import Tokens
from serving.embedded.models.manifest import check_files, is_whole, recorded_distribution
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, ServerConfigError
from tests.support.fuzzing import fuzz
from tests.support.records import predict_log

MAX_TENSOR_BYTES = 2**20
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


def test_tensors() -> None:
    """A TensorError, or an array that is no larger than allowed and comes back the same from a message of its own."""
    values: list[Any] = [
        np.array([1.5, -0.0], np.float32), np.array([[1], [-2]], np.int8), np.array([2**64 - 1], np.uint64),
        np.array([b"a", b""], object), np.array(True), np.array([1j], np.complex64), np.zeros((0, 3), np.float16),
    ]  # fmt: skip
    examples = [
        tensors.make_tensor_proto(value, tensor_content=content) for value in values for content in (False, True)
    ]

    def check(data: bytes) -> None:
        try:
            array = tensors.make_ndarray(TensorProto.FromString(data), max_bytes=MAX_TENSOR_BYTES)
        except (DecodeError, tensors.TensorError):
            return
        assert array.nbytes <= MAX_TENSOR_BYTES
        dtype = TensorProto.FromString(data).dtype
        again = tensors.make_ndarray(tensors.make_tensor_proto(array, dtype=dtype))
        assert (again.shape, again.dtype, again.tobytes()) == (array.shape, array.dtype, array.tobytes()) or (
            array.dtype.kind == "O" and again.tolist() == array.tolist()
        )

    fuzz("tensors", check, [example.SerializeToString() for example in examples])


def test_recordings(tmp_path: Path) -> None:
    """A RecordingError, or records that can be asked for all that they have; their frames right or spoiled too."""
    logs = [predict_log(number, 3).SerializeToString() for number in range(2)]
    path = tmp_path / "recording"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(RecordingError):
            for log in read_recording(path):
                assert exchange(log).request is not None
                assert isinstance(has_inputs(log), bool)
                origin = Origin.of(log)
                again = PredictionLog(log_metadata=LogMetadata(request_origin=origin.text))
                assert Origin.of(again) == origin

    def check(data: bytes) -> None:
        read(data)
        read(framed(data))

    fuzz("recordings", check, [*logs, b"".join(map(framed, logs))])


def test_manifests(tmp_path: Path) -> None:
    """FailedPrecondition, or a version that is whole; what it answered to the test set is there or not."""
    version = tmp_path / "1"
    (version / MANIFEST_FILE).parent.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"model")
    directory = VersionDirectory(version)

    def check(data: bytes) -> None:
        (version / MANIFEST_FILE).write_bytes(data)
        for read in (is_whole, check_files):
            with contextlib.suppress(FailedPrecondition):
                read(directory)
        distribution = recorded_distribution(directory)
        assert distribution is None or sum(map(len, distribution)) <= 200

    fuzz("manifests", check)


def test_signatures() -> None:
    """A SignatureError, or digests by name: of files of any content, and of payloads that the trusted key signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    trusted = [PublicKey.of("release.pub", key.public_key())]

    def signed(payload: bytes) -> bytes:
        message = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)
        signature = base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()
        envelope = {"payload": base64.b64encode(payload).decode(), "signatures": [{"sig": signature}]}
        return json.dumps({"dsseEnvelope": envelope}).encode()

    def check(data: bytes) -> None:
        for content in (data, signed(data)):
            with contextlib.suppress(SignatureError):
                name, digests = signed_digests(content, trusted)
                assert name == "release.pub"
                assert all(isinstance(text, str) for pair in digests.items() for text in pair)

    fuzz("signatures", check)


def test_token_files(tmp_path: Path) -> None:
    """A ServerConfigError, or tokens, whose lines say the same again."""
    path = tmp_path / "tokens"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            Tokens(str(path))
        except ServerConfigError:
            return
        for entry in parse_entries(path.read_text(encoding="utf-8"), str(path)):
            assert parse_entries(entry.line, "") == [entry]

    fuzz("tokens", check)
