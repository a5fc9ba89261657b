"""The steps of the export in a process of their own: what it is asked, what it gives, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_common.installation import module_command
from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE
from fashion_common.runtimes import WITHOUT_KERAS
from training.errors import SelfTestError, TrainingError
from training.export import step_process as subject
from training.export.step_process import step_process


def running(monkeypatch: pytest.MonkeyPatch, directory: Path, program: str) -> None:
    """Lets a program take the place of the process's own."""
    (directory / "program.py").write_text(f"import json, os, sys\n{program}")
    monkeypatch.setattr(subject, "module_command", lambda _: [sys.executable, f"{directory}/program.py"])


def test_one_process_runs_one_step_after_the_other(version: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the converter prints goes nowhere; what fails is the line that says why, and the next step runs."""
    lite_model, saved_model = version / LITE_MODEL_FILE, version / SAVED_MODEL_FILE
    lite_model.unlink()
    with step_process() as steps:
        steps.convert(version)
        assert lite_model.stat().st_size > 400_000
        differences = steps.self_test(version)
        saved_model.write_bytes(b"no model")
        with pytest.raises(TrainingError, match=r"^Error parsing message"):
            steps.convert(version)
        with pytest.raises(SelfTestError, match=r"^Not published, the self-test failed: TensorFlow cannot load "):
            steps.self_test(version)
    assert set(differences.tensorflow) == {"classify", "encoded_images", "float_images", "serving_default"}
    assert set(differences.litert) == {"float_images", "serving_default"}
    assert max([*differences.tensorflow.values(), *differences.litert.values()]) <= 1e-5
    assert differences.litert_failure == ""
    assert capfd.readouterr() == ("", "")


def test_a_process_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is its last line, or how it ended."""
    running(
        monkeypatch,
        tmp_path,
        "if json.loads(input())[0] == 'convert':\n"
        "    os._exit(7)\n"
        "print('\\nfirst', file=sys.stderr)\n"
        "sys.exit('last words')\n",
    )
    with step_process() as steps:
        for _ in range(2):
            with pytest.raises(SelfTestError, match=r"^Not published, the self-test failed: last words$"):
                steps.self_test(tmp_path)
            with pytest.raises(TrainingError, match=r"^its process ended with 7$"):
                steps.convert(tmp_path)


def test_a_process_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was asked before it ended or after."""
    running(monkeypatch, tmp_path, "sys.exit('no such library')\n")
    with step_process() as steps:
        for _ in range(2):
            with pytest.raises(TrainingError, match=r"^no such library$"):
                steps.convert(tmp_path)


def test_what_a_step_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The process is told to print little and to do without Keras; what it prints all the same does not block it."""
    running(
        monkeypatch,
        tmp_path,
        "print('a library' * 100_000, file=sys.stderr)\n"
        "variables = 'TF_CPP_MIN_LOG_LEVEL', 'PYTHONWARNINGS', 'TF_USE_LEGACY_KERAS'\n"
        "for line in sys.stdin:\n"
        "    values = dict(zip(variables, map(os.environ.get, variables)))\n"
        "    print(json.dumps({'value': [values, {}, json.loads(line)[1]]}), flush=True)\n",
    )
    with step_process() as steps:
        given, *_ = steps.self_test(tmp_path)
        assert dict[str, object](given) == {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONWARNINGS": "ignore",
            "TF_USE_LEGACY_KERAS": "1",
        }
        assert steps.self_test(tmp_path).litert_failure == str(tmp_path)
    with step_process():
        pass
    assert capfd.readouterr() == ("", "")


def test_it_is_ours_light_and_ends_with_its_input(tmp_path: Path) -> None:
    """What lies in the user's directory is not run, Keras is not imported, and it does not outlive who started it."""
    for name in ("training/__init__.py", "random.py", "tensorflow.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise SystemExit('the file of the working directory was run')")
    python, *arguments = module_command("training.export.step_process")
    done = subprocess.run(
        [python, "-X", "importtime", *arguments],
        cwd=tmp_path,
        env={**os.environ, **WITHOUT_KERAS},
        input=json.dumps(["self_test", str(tmp_path / "1")]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [failure] = json.loads(done.stdout).values()
    assert failure.startswith(f"No self-test at {tmp_path}/1/assets.extra")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"tensorflow", "training.export.lite"} <= imported
    assert "keras" not in imported


def test_paths_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones too."""
    running(monkeypatch, tmp_path, "print(json.dumps({'failure': json.loads(input())[1]}))\n")
    monkeypatch.chdir(tmp_path)
    with step_process() as steps, pytest.raises(TrainingError) as error:
        steps.convert(Path("models/3"))
    assert str(error.value) == f"{tmp_path}/models/3"
