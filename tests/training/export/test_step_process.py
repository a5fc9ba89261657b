"""A step of the export in a process of its own: what it is asked, what it gives, and how it fails."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_common.runtimes import WITHOUT_KERAS
from training.errors import SelfTestError, TrainingError
from training.export import step_process


def asked(monkeypatch: pytest.MonkeyPatch, text: str, failure: TrainingError | None = None) -> list[Path]:
    """What a step is run on whose process reads this text."""
    paths: list[Path] = []

    def step(path: Path) -> object:
        paths.append(path)
        if failure:
            raise failure
        return {"a": 1}, [], str(path)

    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    step_process.main(step)
    return paths


def test_a_step_runs_on_the_version_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its result is JSON in one line; without a version, as of an export that was given up, it does nothing."""
    assert asked(monkeypatch, "/models/m/3\nmore\n") == [Path("/models/m/3")]
    assert capsys.readouterr() == ('[{"a": 1}, [], "/models/m/3"]\n', "")
    assert asked(monkeypatch, "") == []
    assert capsys.readouterr() == ("", "")


def test_a_step_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, with exit code 1; another error than ours is a fault of the program."""
    with pytest.raises(SystemExit) as ended:
        asked(monkeypatch, "a\n", SelfTestError("it differs"))
    assert ended.value.code == "it differs"


def test_the_last_line_of_a_process_that_fails_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words, or how it ended; it gets the version's whole path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "told.py").write_text(
        "import sys\nprint('much')\nprint('\\nfirst', file=sys.stderr)\nsys.exit(input())\n"
    )
    (tmp_path / "silent.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(step_process, "module_command", lambda module: [sys.executable, f"{module}.py"])
    with step_process.step_process("told", SelfTestError) as run, pytest.raises(SelfTestError) as error:
        run(Path("models/3"))
    assert str(error.value) == f"{tmp_path}/models/3"
    with step_process.step_process("silent", TrainingError) as run, pytest.raises(TrainingError) as failure:
        run(Path("models/3"))
    assert str(failure.value) == "its process ended with 7"


def test_the_last_line_of_a_process_that_ends_well_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever a library prints before goes nowhere; it is told to print little, and that TensorFlow needs no Keras."""
    program = (
        "import json, os, sys\n"
        "print('a library', file=sys.stderr)\n"
        "print('a library')\n"
        "variables = 'TF_CPP_MIN_LOG_LEVEL', 'PYTHONWARNINGS', 'TF_USE_LEGACY_KERAS'\n"
        "print(json.dumps([input(), *map(os.environ.get, variables)]))\n"
    )
    (tmp_path / "good.py").write_text(program)
    monkeypatch.setattr(step_process, "module_command", lambda module: [sys.executable, f"{tmp_path}/{module}.py"])
    with step_process.step_process("good", TrainingError) as run:
        assert run(tmp_path) == [str(tmp_path), "3", "ignore", "1"]
    with step_process.step_process("good", TrainingError):
        pass
    assert capfd.readouterr() == ("", "")


def test_the_steps_import_no_keras() -> None:
    """The conversion and the self-test are there in half of the time."""
    program = (
        "import sys, training.export.self_test\n"
        "assert {'tensorflow', 'training.export.lite'} <= set(sys.modules)\n"
        "assert 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **WITHOUT_KERAS}, check=True, timeout=60)
