"""What runs by itself names what is there: GitHub's workflows, .ci/run and the commit hook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CI, RELEASE = (
    yaml.safe_load((ROOT / ".github/workflows" / name).read_text())["jobs"] for name in ("ci.yml", "release.yml")
)
HOOK = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"][0]


def commands(job: dict[str, Any]) -> list[str]:
    """The lines of shell that a job runs."""
    return [line.strip() for step in job.get("steps", []) for line in step.get("run", "").splitlines()]


def targets(lines: list[str]) -> list[str]:
    """The targets of the lines that call make."""
    words = [line.split() for line in lines if line.startswith("make ")]
    return [word for line in words for word in line[1:] if re.fullmatch("[a-z-]+", word)]


@pytest.mark.parametrize(
    "lines",
    [
        *(pytest.param(commands(job), id=f"ci: {name}") for name, job in CI.items()),
        pytest.param(commands(RELEASE["packages"]), id="release: packages"),
        pytest.param(commands(RELEASE["images"]), id="release: images"),
        *(
            pytest.param([f"make {row['targets']}"], id=f"release: images for {row['architecture']}")
            for row in RELEASE["images"]["strategy"]["matrix"]["include"]
        ),
        pytest.param([HOOK["entry"]], id="the commit hook"),
        pytest.param(re.findall("make .*", (ROOT / ".ci/run").read_text()), id=".ci/run"),
    ],
)
def test_every_make_target_is_in_the_makefile(lines: list[str]) -> None:
    """With its line of help."""
    makefile = (ROOT / "Makefile").read_text()
    assert targets(lines)
    for target in targets(lines):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_ci_runs_on_every_python_and_both_processors() -> None:
    """Those of the package's classifiers; amd64 and arm64."""
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert CI["test"]["strategy"]["matrix"] == {"python": classifiers, "runner": ["ubuntu-24.04", "ubuntu-24.04-arm"]}


def test_ci_runs_what_decides_whether_a_change_lands() -> None:
    """The targets of .ci/run."""
    script = (ROOT / ".ci/run").read_text()
    assert [target for target in targets(commands(CI["test"])) if target != "setup"] == re.findall(
        r"^(?:\w+=\w+ )*make ([a-z]+)", script, re.MULTILINE
    )


def test_the_hook_is_the_check_itself() -> None:
    """So that its tools are those of the lock file."""
    assert (HOOK["entry"], HOOK["language"], HOOK["pass_filenames"]) == ("make check", "system", False)


def test_only_the_release_itself_may_write() -> None:
    """GITHUB_TOKEN reads, but in the one job that creates the release."""
    writing = [name for name, job in RELEASE.items() if "write" in job["permissions"].values()]
    assert writing == ["release"]
    assert not any("permissions" in job for job in CI.values())
