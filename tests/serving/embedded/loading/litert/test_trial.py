"""A damaged model ends another process, not the server's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from serving.apis.messages import DT_FLOAT, DT_INT32, DT_STRING, DT_UINT8, SignatureDef
from serving.embedded.loading.litert import trial
from serving.embedded.loading.litert.trial import check_survival
from serving.errors import FailedPrecondition, InvalidArgument
from tests.support.console import unmeasured
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
    # Its thousand processes would each write down what they ran, for longer than they run.
    process = subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=False, timeout=280)
    assert 0 <= process.returncode <= 3, process.stdout + process.stderr
    assert " 1000 changed" in process.stdout


class Asked:
    """What a model was asked."""

    def __init__(self) -> None:
        self.runs: list[tuple[dict[str, Any], list[str]]] = []

    def run(self, feeds: dict[str, Any], fetches: list[str]) -> None:
        """Notes it."""
        self.runs.append((feeds, fetches))


def signature(**inputs: tuple[int, tuple[int, ...]]) -> SignatureDef:
    """A signature with these inputs, types and sizes, and two outputs."""
    made = SignatureDef()
    for name, (data_type, sizes) in inputs.items():
        made.inputs[name].name, made.inputs[name].dtype = f"{name}:0", data_type
        for size in sizes:
            made.inputs[name].tensor_shape.dim.add(size=size)
    for name in "uv":
        made.outputs[name].name = f"{name}:0"
    return made


def test_a_signature_is_tried_with_ones_and_words() -> None:
    """In so many rows, whatever the file has for them; other sizes that are free are 1; a scalar stays one."""
    asked: Any = Asked()
    trial.run(asked, signature(x=(DT_FLOAT, (-1, 2, -1)), words=(DT_STRING, (1,)), n=(DT_INT32, ())), 3)
    ((feeds, fetches),) = asked.runs
    assert {name: (array.dtype, array.tolist()) for name, array in feeds.items()} == {
        "x:0": (np.float32, [[[1.0], [1.0]]] * 3),
        "words:0": (object, [b"word"] * 3),
        "n:0": (np.int32, 1),
    }
    assert sorted(fetches) == ["u:0", "v:0"]


def test_an_input_that_is_too_large_is_not_tried() -> None:
    """More than four million elements."""
    asked: Any = Asked()
    trial.run(asked, signature(x=(DT_UINT8, (-1, 2**21))), 2)
    assert asked.runs[0][0]["x:0"].size == 2**22
    with pytest.raises(InvalidArgument, match=r"^The input is too large for a trial$"):
        trial.run(asked, signature(x=(DT_UINT8, (-1, 2**22 + 1))), 1)
    assert len(asked.runs) == 1


def test_what_a_trial_cannot_do_is_no_matter(lite_toys: Path) -> None:
    """Neither bytes that are no model nor an operation that LiteRT lacks."""
    trial.main(b"no model")
    trial.main((lite_toys / "flex" / "1" / "model.tflite").read_bytes())
    trial.main((lite_toys / "two" / "1" / "model.tflite").read_bytes())
