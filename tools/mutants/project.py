"""What is mutated, and which tests are asked."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Project(NamedTuple):
    """A checkout: its packages, the files that are not mutated, the tests that are not asked."""

    root: Path
    packages: tuple[str, ...] = ("delivery", "rollout", "scoring", "training", "serving", "client", "fashion_common")
    # Figures, reports and help texts: what they look like is judged by eye.
    unmutated: tuple[str, ...] = ("training/report/", "client/commands/figures.py")
    # These start servers and containers, and take minutes.
    unasked: tuple[str, ...] = ("tests/hostile", "tests/e2e", "tests/docker", "tests/docs/test_tutorial.py")
    # What most tests import that is not the project's own, and takes long.
    preloaded: tuple[str, ...] = (
        "ai_edge_litert.interpreter", "cryptography.x509", "google_crc32c", "grpc", "h2.connection", "httptools",
        "httpx", "hypothesis", "numpy", "orjson", "PIL.Image", "prometheus_client", "scipy.ndimage", "sklearn",
        "tensorflow", "trustme", "uvloop", "xdist",
    )  # fmt: skip

    @property
    def build(self) -> Path:
        """Where everything is kept that a run makes."""
        return self.root / "build/mutants"

    @property
    def equivalents(self) -> Path:
        """The mutants that no test can kill, with the reasons."""
        return self.root / "tests/equivalent_mutants.json"

    def files(self) -> list[str]:
        """All files of the checkout that git does not ignore."""
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listing = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout
        return sorted({name for name in listing.split("\0") if name and (self.root / name).is_file()})

    def modules(self) -> list[str]:
        """The files that are mutated."""
        product = tuple(f"{package}/" for package in self.packages)
        return [
            name
            for name in self.files()
            if name.startswith(product) and name.endswith(".py") and not name.startswith(self.unmutated)
        ]


PRODUCT = Project(ROOT)
