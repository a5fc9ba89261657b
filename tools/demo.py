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
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fashion_common.native_stderr import native_stderr_silenced
from fashion_common.served_model import CLASS_NAMES

Images = npt.NDArray[np.uint8]
FASHION = Path(sys.executable).with_name("fashion")
PICTURES = Path("build/demo")
MODEL_BASE_PATH = Path("build/demo-models/fashion_mnist")
FIGURE = Path("build/demo.png")


def main() -> None:
    """Runs all steps; ends with the exit code of the one that fails."""
    start = time.monotonic()
    _run("train", *sys.argv[1:])
    _run("export", "--model-base-path", MODEL_BASE_PATH)
    files, images = _write_pictures()
    with _server() as (grpc, rest):
        answers = {server: _predict(server, files) for server in (grpc, rest)}
    _save_figure(images, answers[grpc])
    _print_table(files, answers[grpc], answers[rest])
    print(f"\n{FIGURE} shows the ten. All of it took {time.monotonic() - start:.0f} s. Try next:\n")
    print("  make train export serve                     the same, step by step: the server stays, on 8500 and 8501")
    print(f"  .venv/bin/fashion predict {PICTURES}/*.png  ask it, from a second terminal")
    print("  .venv/bin/fashion --help                    all commands")


def _echo(*arguments: object, files: Sequence[Path] = ()) -> list[str]:
    """Prints a command as a user would type it, and gives it as it is run."""
    command = shlex.join(["fashion", *map(str, arguments)])
    print(f"\n$ {command}{f' {PICTURES}/*.png' if files else ''}", flush=True)
    return [str(FASHION), *map(str, [*arguments, *files])]


def _run(*arguments: object) -> None:
    if code := subprocess.run(_echo(*arguments), check=False).returncode:
        sys.exit(code)


def _write_pictures() -> tuple[list[Path], Images]:
    """The first test image of each class as PNG."""
    with native_stderr_silenced():
        from training.data.dataset import load

        data = load()
    rows = [int(np.flatnonzero(data.test_labels == class_id)[0]) for class_id in range(len(CLASS_NAMES))]
    PICTURES.mkdir(parents=True, exist_ok=True)
    files = []
    for row, class_name in zip(rows, CLASS_NAMES, strict=True):
        file = PICTURES / f"{class_name.lower().replace('/', '-').replace(' ', '-')}.png"
        Image.fromarray(data.test_images[row]).save(file)
        files.append(file)
    return files, data.test_images[rows]


@contextmanager
def _server() -> Iterator[tuple[str, str]]:
    """Serves the newest version on free ports; gives the URLs of gRPC and REST once it is AVAILABLE."""
    command = _echo("serve", "--model-base-path", MODEL_BASE_PATH, "--port", 0, "--rest-port", 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        urls = {}
        for line in server.stdout:
            print(line, end="", flush=True)
            name, _, value = line.strip().partition("  ")
            urls[name] = value
            # The last of the lines that say where it listens.
            if name == "Stop":
                break
        else:
            sys.exit(f"demo: fashion serve ended with exit code {server.wait()}")
        try:
            yield urls["gRPC"], urls["REST"].partition("/v1/")[0]
        finally:
            server.send_signal(signal.SIGTERM)
            print(server.stdout.read(), end="", flush=True)


def _predict(server: str, files: list[Path]) -> list[dict[str, object]]:
    command = _echo("predict", "--server", server, "--json", files=files)
    process = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if process.returncode:
        sys.exit(process.returncode)
    predictions: list[dict[str, object]] = json.loads(process.stdout)
    return predictions


def _save_figure(images: Images, answers: list[dict[str, object]]) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(10, 5), layout="constrained")
    figure.suptitle("Ten test images and what the server answered", fontsize=14)
    for axis, image, truth, answer in zip(axes.flat, images, CLASS_NAMES, answers, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        right = answer["class_name"] == truth
        label = f"{answer['class_name']}  {answer['probability']:.0%}"
        axis.set_title(
            label if right else f"{label}\nnot {truth}", fontsize=11, color="#1a7f37" if right else "#cf222e"
        )
    figure.savefig(FIGURE, dpi=100)
    plt.close(figure)


def _print_table(files: list[Path], grpc: list[dict[str, object]], rest: list[dict[str, object]]) -> None:
    print(f"\n{'file':<28}{'it is':<14}{'over gRPC':<22}over REST")
    for file, truth, over_grpc, over_rest in zip(files, CLASS_NAMES, grpc, rest, strict=True):
        left, right = (f"{answer['class_name']} {answer['probability']:.4f}" for answer in (over_grpc, over_rest))
        print(f"{file!s:<28}{truth:<14}{left:<22}{right}")


if __name__ == "__main__":
    main()
