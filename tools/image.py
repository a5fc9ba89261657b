"""Builds one of the images with docker or podman, whichever runs; labels say what model is in it.

    python tools/image.py NAME [--base-image IMAGE] [--network NETWORK] [--tag TAG]

Run by `make image`, `make image-gpu`, and `make image-NAME` for the others. The image is called fashion-NAME.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from fashion_common.errors import FashionError
from fashion_common.layout import MANIFEST_FILE, MODEL_BASE_PATH
from serving.launch.backends import ServeOptions
from serving.launch.choose import find_engine
from serving.launch.offer import Offer
from serving.launch.prepare import versions_to_serve

ROOT = Path(__file__).parents[1]
_OCI = "org.opencontainers.image"


class Image(NamedTuple):
    """A Dockerfile and what it is given."""

    dockerfile: str
    build_args: tuple[str, ...] = ()
    has_model: bool = True


IMAGES = {
    "serving": Image("serving"),
    "serving-gpu": Image("serving", ("VARIANT=-gpu",)),
    "embedded": Image("embedded"),
    "light": Image("light"),
    "score": Image("light", ("REQUIREMENTS=score",)),
    "score-ray": Image("light", ("REQUIREMENTS=score-ray",)),
    "pull": Image("light", ("REQUIREMENTS=pull",)),
    "client": Image("client", has_model=False),
}


def build_command(
    name: str,
    engine: str,
    *,
    context: Path = ROOT,
    tag: str = "",
    base_image: str = "",
    network: str = "",
) -> list[str]:
    """The command that builds an image. Raises FashionError when the context holds no model to put into it."""
    image = IMAGES[name]
    build_args = [*image.build_args, *([f"BASE_IMAGE={base_image}"] if base_image else [])]
    labels = model_labels(context) if image.has_model else {}
    return [
        engine,
        "build",
        # Only docker's format has health checks.
        *(["--format=docker"] if engine == "podman" else []),
        *([f"--network={network}"] if network else []),
        f"--file={context}/docker/{image.dockerfile}.Dockerfile",
        f"--tag={tag or f'fashion-{name}'}",
        *(f"--build-arg={argument}" for argument in build_args),
        *(f"--label={key}={value}" for key, value in labels.items()),
        str(context),
    ]


def model_labels(context: Path) -> dict[str, str]:
    """OCI labels of the newest version, from its manifest where it has one. Raises FashionError without a version."""
    versions = versions_to_serve(ServeOptions(model_base_path=context / MODEL_BASE_PATH), Offer())
    newest = max(versions)
    labels = {f"{_OCI}.version": str(newest)}
    manifest_path = versions[newest] / MANIFEST_FILE
    manifest = json.loads(manifest_path.read_text(encoding="utf-8")) if manifest_path.is_file() else {}
    facts = {
        f"{_OCI}.created": manifest.get("exported_at"),
        f"{_OCI}.revision": manifest.get("git_revision"),
        "fashion.accuracy": manifest.get("accuracy"),
        "fashion.recipe": manifest.get("recipe"),
    }
    return {**labels, **{key: str(value) for key, value in facts.items() if value}}


def main() -> int:
    """Builds, and says how large the image is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=IMAGES)
    parser.add_argument("--engine", help="docker or podman; found when not given")
    parser.add_argument("--base-image", default="", help="in place of TF Serving's image")
    parser.add_argument("--network", default="", help="the network of the build's steps: host, for example")
    parser.add_argument("--tag", default="", help="the image's name [default: fashion-NAME]")
    arguments = parser.parse_args()
    tag = arguments.tag or f"fashion-{arguments.name}"
    try:
        engine = find_engine(arguments.engine)
        options = {"base_image": arguments.base_image, "network": arguments.network}
        command = build_command(arguments.name, engine, tag=tag, **options)
    except FashionError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    if code := subprocess.run(command, check=False).returncode:
        return code
    inspect = [engine, "image", "inspect", "--format={{.Size}}", tag]
    size = int(subprocess.run(inspect, check=True, capture_output=True, text=True).stdout)
    print(f"{tag}: {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
