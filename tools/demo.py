"""The whole road on the real data: train, export, serve, and ask for ten class names over gRPC and over REST.

Run by `make demo`. Leaves the run in `runs/`, the ten pictures in `build/demo/`, the version in `build/demo-models/`,
and what was answered in `build/demo.png`. The version has a base path of its own: a better one under `models/` would
rightly refuse it; and one beside the pictures: `fashion predict build/demo` asks for pictures alone.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from client import connect
from client.errors import ClientError
from fashion_common.native_stderr import native_stderr_silenced

Images = npt.NDArray[np.uint8]
FASHION = Path(sys.executable).with_name("fashion")
PICTURES = Path("build/demo")
MODEL_BASE_PATH = Path("build/demo-models/fashion_mnist")
FIGURE = Path("build/demo.png")
READY_SECONDS = 60


def main() -> None:
    """Walks the road; ends with status 1 where a step fails."""
    began = time.monotonic()
    _run("train", *sys.argv[1:])
    _run("export", "--model-base-path", MODEL_BASE_PATH)
    files, images, class_names = _write_pictures()
    with _served() as (grpc, rest):
        answers = {server: _predict(server, files) for server in (grpc, rest)}
    _save_figure(images, class_names, answers[grpc])
    _print_table(files, class_names, answers[grpc], answers[rest])
    print(f"\n{FIGURE} shows the ten. All of it took {time.monotonic() - began:.0f} s. Try next:\n")
    print(
        "  make train export serve                          the same, step by step: the server stays, on 8500 and 8501"
    )
    print(f"  .venv/bin/fashion predict {PICTURES}/*.png       ask it, from a second terminal")
    print("  .venv/bin/fashion --help                         all commands")


def _say(*arguments: object, files: Sequence[Path] = ()) -> list[str]:
    """Prints a command as a user would type it, and gives it as it is run."""
    typed = shlex.join(["fashion", *map(str, arguments)])
    print(f"\n$ {typed}{f' {PICTURES}/*.png' if files else ''}", flush=True)
    return [str(FASHION), *map(str, [*arguments, *files])]


def _run(*arguments: object) -> None:
    done = subprocess.run(_say(*arguments), check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _write_pictures() -> tuple[list[Path], Images, list[str]]:
    """The first test image of each class as PNG."""
    with native_stderr_silenced():
        from fashion_common.served_model import CLASS_NAMES
        from training.data.dataset import load

        data = load()
    chosen = [int(np.flatnonzero(data.test_labels == class_id)[0]) for class_id in range(len(CLASS_NAMES))]
    PICTURES.mkdir(parents=True, exist_ok=True)
    files = []
    for index, class_name in zip(chosen, CLASS_NAMES, strict=True):
        file = PICTURES / f"{class_name.lower().replace('/', '-').replace(' ', '-')}.png"
        Image.fromarray(data.test_images[index]).save(file)
        files.append(file)
    return files, data.test_images[chosen], list(CLASS_NAMES)


@contextmanager
def _served() -> Iterator[tuple[str, str]]:
    """Serves the newest version on free ports and gives both addresses once it is AVAILABLE."""
    port, rest_port = _free_ports(2)
    grpc, rest = f"grpc://127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}"
    with subprocess.Popen(
        _say("serve", "--model-base-path", MODEL_BASE_PATH, "--port", port, "--rest-port", rest_port)
    ) as server:
        try:
            for address in (grpc, rest):
                _wait_until_available(address, server)
            yield grpc, rest
        finally:
            server.send_signal(signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_until_available(address: str, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while server.poll() is None:
        try:
            with connect(address, timeout=1) as connection:
                if any(version.state == "AVAILABLE" for version in connection.status()):
                    return
        except ClientError as error:
            if time.monotonic() > give_up:
                sys.exit(f"demo: no answer from {address} within {READY_SECONDS} s: {error}")
        time.sleep(0.05)
    sys.exit(f"demo: fashion serve ended with status {server.returncode}")


def _predict(server: str, files: list[Path]) -> list[dict[str, object]]:
    command = _say("predict", "--server", server, "--json", files=files)
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def _save_figure(images: Images, class_names: list[str], answers: list[dict[str, object]]) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(10, 5), layout="constrained")
    figure.suptitle("Ten test images and what the server answered", fontsize=14)
    for axis, image, truth, answer in zip(axes.flat, images, class_names, answers, strict=True):
        axis.imshow(image, cmap="gray_r")
        axis.set_axis_off()
        right = answer["class_name"] == truth
        label = f"{answer['class_name']}  {answer['probability']:.0%}"
        axis.set_title(
            label if right else f"{label}\nnot {truth}", fontsize=11, color="#1a7f37" if right else "#cf222e"
        )
    figure.savefig(FIGURE, dpi=100)
    plt.close(figure)


def _print_table(
    files: list[Path], class_names: list[str], grpc: list[dict[str, object]], rest: list[dict[str, object]]
) -> None:
    print(f"\n{'file':<28}{'it is':<14}{'over gRPC':<22}over REST")
    for file, truth, over_grpc, over_rest in zip(files, class_names, grpc, rest, strict=True):
        told = [f"{answer['class_name']} {answer['probability']:.4f}" for answer in (over_grpc, over_rest)]
        print(f"{file!s:<28}{truth:<14}{told[0]:<22}{told[1]}")


if __name__ == "__main__":
    main()
