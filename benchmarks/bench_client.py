"""What our client costs against tensorflow-serving-api's, and what bulk prediction reaches. Run by `make bench-client`.

Single: one image, one process, `fashion predict` against the same request through the official stubs, alternating.
Bulk: 10,000 images over gRPC through the pipeline of `fashion predict`, against one request an image in a loop, ours
and the official stubs', and against h2load, which sends the same batches ready made.

Everything in one run against one server; medians and ratios go to benchmarks/results/client.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.live import served
from client.calls import calls
from client.connection import Connection, connect
from client.pictures.batch import Batch
from client.pictures.sources import Block
from client.pipeline import answers
from client.transports.grpc_wire import predict_request
from client.types import IMAGE_BYTES, ModelSpec

RESULT = Path(__file__).parent / "results" / "client.json"
FASHION = Path(sys.executable).with_name("fashion")
IMAGES = 10_000
LOOPED = 500
# As docs/client.md advises for arrays: while the server is at one batch, the client takes apart another.
BATCH_SIZE = 1_000
CONCURRENCY = 3

# What a user of tensorflow-serving-api writes for one picture.
OFFICIAL = """
import sys, grpc, numpy as np, tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "fashion_mnist"
image = np.asarray(Image.open(sys.argv[2]))[np.newaxis]
request.inputs["images"].CopyFrom(tf.make_tensor_proto(image))
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[1]))
answer = stub.Predict(request, 10)
name = tf.make_ndarray(answer.outputs["class_names"])[0].decode()
print(sys.argv[2], name, tf.make_ndarray(answer.outputs["probabilities"]).max())
"""

# And for many of them: prints how many a second, without the imports and the first request.
OFFICIAL_LOOP = """
import sys, time, grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
images = np.random.default_rng(0).integers(0, 256, (int(sys.argv[2]) + 1, 1, 28, 28), np.uint8)
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[1]))
for index, image in enumerate(images):
    if index == 1:
        began = time.perf_counter()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "fashion_mnist"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(image))
    answer = stub.Predict(request, 10)
    tf.make_ndarray(answer.outputs["class_names"])[0].decode(), tf.make_ndarray(answer.outputs["probabilities"]).max()
print((len(images) - 1) / (time.perf_counter() - began))
"""


def measured(command: list[str]) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of a whole process. Ends the script when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed with {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def single(server: str, picture: Path, rounds: int) -> dict[str, float]:
    """One picture in one process, ours and the official client's, alternating."""
    ours, official = [], []
    for _ in range(rounds):
        ours.append(measured([str(FASHION), "predict", "--server", server, str(picture)]))
        official.append(measured([sys.executable, "-c", OFFICIAL, server.removeprefix("grpc://"), str(picture)]))
    seconds, memory = (statistics.median(one[index] for one in ours) for index in (0, 1))
    official_seconds, official_memory = (statistics.median(one[index] for one in official) for index in (0, 1))
    return {
        "fashion_seconds": seconds,
        "official_seconds": official_seconds,
        "time_ratio": seconds / official_seconds,
        "fashion_megabytes": memory / 1e6,
        "official_megabytes": official_memory / 1e6,
        "memory_ratio": memory / official_memory,
    }


def bulk(server: str, rounds: int) -> dict[str, float]:
    """Images a second: one request an image in a loop, both clients', the pipeline, h2load; alternating."""
    pixels = os.urandom(IMAGES * IMAGE_BYTES)
    looped, official, piped, loaded = [], [], [], []
    with connect(server) as connection, tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "request"
        body.write_bytes(_grpc_frame(connection, pixels[: BATCH_SIZE * IMAGE_BYTES]))
        for _ in range(rounds):
            looped.append(_loop(connection, pixels))
            official.append(_official_loop(server))
            piped.append(_pipeline(connection, pixels))
            loaded.append(_h2load(server, body))
    return {
        "images": IMAGES,
        "batch_size": BATCH_SIZE,
        "in_flight": CONCURRENCY,
        "loop_images_per_second": statistics.median(looped),
        "official_loop_images_per_second": statistics.median(official),
        "pipeline_images_per_second": statistics.median(piped),
        "h2load_images_per_second": statistics.median(loaded),
        "pipeline_to_loop": statistics.median(piped) / statistics.median(looped),
        "pipeline_to_official_loop": statistics.median(piped) / statistics.median(official),
        "pipeline_to_h2load": statistics.median(piped) / statistics.median(loaded),
    }


def _loop(connection: Connection, pixels: bytes) -> float:
    began = time.perf_counter()
    for index in range(LOOPED):
        connection.predict(Batch("DT_UINT8", pixels[index * IMAGE_BYTES : (index + 1) * IMAGE_BYTES]))
    return LOOPED / (time.perf_counter() - began)


def _official_loop(server: str) -> float:
    command = [sys.executable, "-c", OFFICIAL_LOOP, server.removeprefix("grpc://"), str(LOOPED)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def _pipeline(connection: Connection, pixels: bytes) -> float:
    def block(start: int) -> Block:
        content = pixels[start * IMAGE_BYTES : (start + BATCH_SIZE) * IMAGE_BYTES]
        return Block([f"[{row}]" for row in range(start, start + BATCH_SIZE)], lambda: Batch("DT_UINT8", content))

    began = time.perf_counter()
    blocks = map(block, range(0, IMAGES, BATCH_SIZE))
    found = answers(connection, blocks, batch_size=BATCH_SIZE, concurrency=CONCURRENCY)
    assert sum(answer.prediction is not None for answer in found) == IMAGES
    return IMAGES / (time.perf_counter() - began)


def _grpc_frame(connection: Connection, pixels: bytes) -> bytes:
    """A gRPC message as it stands in an HTTP/2 body: not compressed, its length, itself."""
    call = next(calls(Batch("DT_UINT8", pixels), connection.metadata(), None))
    message = predict_request(ModelSpec(), call).SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def _h2load(server: str, body: Path) -> float:
    requests = IMAGES // BATCH_SIZE
    url = f"{server.replace('grpc://', 'http://')}/tensorflow.serving.PredictionService/Predict"
    command = ["h2load", "-n", str(requests), "-c", str(CONCURRENCY), "-d", str(body), "-H", "te: trailers"]
    done = subprocess.run(
        [*command, "-H", "content-type: application/grpc", url], check=True, capture_output=True, text=True
    )
    assert f"{requests} succeeded" in done.stdout, done.stdout
    spent = next(line for line in done.stdout.splitlines() if line.startswith("finished in")).split()[2].rstrip(",")
    seconds = float(spent.removesuffix("ms")) / 1000 if spent.endswith("ms") else float(spent.removesuffix("s"))
    return IMAGES / seconds


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description="Measure the client against tensorflow-serving-api and h2load.")
    parser.add_argument("--server", help="a gRPC server that serves fashion_mnist; else the embedded one is started")
    parser.add_argument("--picture", type=Path, default=Path("build/demo/ankle-boot.png"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if not shutil.which("h2load"):
        sys.exit("bench-client needs h2load: apt-get install nghttp2-client, or brew install nghttp2")
    if not options.picture.is_file():
        sys.exit(f"{options.picture} is not there: `make demo` writes it, or name one with --picture")
    with served(options.server) as server:
        result = {"single": single(server, options.picture, options.rounds), "bulk": bulk(server, options.rounds)}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
