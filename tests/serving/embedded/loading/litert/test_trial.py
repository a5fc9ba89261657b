"""A damaged model ends another process, not the server's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from serving.embedded.loading.litert.trial import check_survival
from serving.errors import FailedPrecondition
from tests.support.lite_files import packed


def test_a_file_that_ends_its_process(lite_toys: Path) -> None:
    """Its flatbuffer is whole, but an addition has no inputs; one that LiteRT refuses is no matter of the trial."""
    content = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    check_survival(Path("model.tflite"), content)
    check_survival(Path("model.tflite"), content[:-1])
    model = schema.ModelT.InitFromPackedBuf(content)
    addition = next(operator for operator in model.subgraphs[0].operators if len(operator.inputs) == 2)
    addition.inputs = [-1, -1]
    with pytest.raises(
        FailedPrecondition, match=r"^model\.tflite is damaged, it ended a process by signal 11: copy the version again$"
    ):
        check_survival(Path("model.tflite"), packed(model))


@pytest.mark.parametrize("name", ["half_plus_two", "strings"])
def test_cut_and_changed_files(lite_toys: Path, name: str) -> None:
    """None that is cut ends the process; of a thousand changed ones, hardly any that passes its trial does."""
    command = [sys.executable, "-m", "tests.support.lite_fuzz", str(lite_toys / name / "1" / "model.tflite")]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert 0 <= process.returncode <= 3, process.stdout + process.stderr
    assert " 1000 changed" in process.stdout
