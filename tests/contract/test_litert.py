"""The recorded cases on LiteRT: those whose signature its converter takes; the others are named, with the reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.contract import test_grpc, test_rest
from tests.support.live import Server, recorded_server

_NO_PARSER = "classify and regress parse tf.Example in the graph, which LiteRT cannot"
_NO_STRINGS = "dtypes joins strings, for which LiteRT has no operation"
_METADATA = "the recorded metadata lists all signatures, and the SavedModel's names of tensors"
_STRICT = "noted as a bad input that TF Serving takes; LiteRT's kernels are held to the model's shapes"
OTHERS = {
    **dict.fromkeys(("classify", "classify_context", "classify_list_feature", "regress"), _NO_PARSER),
    **dict.fromkeys(("classify_with_context", "err_classify_empty_input", "err_classify_no_examples"), _NO_PARSER),
    **dict.fromkeys(("multi_inference", "err_multi_inference_different_models"), _NO_PARSER),
    "err_multi_inference_bad_method": _NO_PARSER,
    **dict.fromkeys(("dtypes_row", "dtypes_column", "text_b64", "text_empty", "int_limits"), _NO_STRINGS),
    **dict.fromkeys(("err_number_for_bool", "err_int32_overflow", "err_float32_overflow"), _NO_STRINGS),
    **dict.fromkeys(("err_bad_b64", "err_b64_extra_key", "predict_dtypes"), _NO_STRINGS),
    **dict.fromkeys(("metadata", "metadata_version", "metadata_label"), _METADATA),
    **dict.fromkeys(("err_wrong_rank", "err_wrong_width"), _STRICT),
}


def of_litert(cases: list[dict[str, Any]]) -> list[Any]:
    """The cases that LiteRT can answer as recorded."""
    return [pytest.param(case, id=case["name"]) for case in cases if case["name"] not in OTHERS]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded server's models, converted by a process of their own."""
    directory = tmp_path_factory.mktemp("lite") / "kitchen"
    command = [sys.executable, "-m", "tests.support.lite_kitchen", str(directory)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=240)
    return directory


@pytest.fixture(scope="module")
def lite_server(kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The recorded server on LiteRT."""
    with recorded_server(tmp_path_factory.mktemp("contract"), kitchen, "--runtime=litert") as server:
        yield server


@pytest.mark.parametrize("case", of_litert(test_rest.CASES))
def test_recorded_rest_answer(case: dict[str, Any], lite_server: Server) -> None:
    """As on TensorFlow."""
    test_rest.check(case, lite_server)


@pytest.fixture(scope="module")
def channel(lite_server: Server) -> Iterator[grpc.Channel]:
    """One connection for all cases."""
    with grpc.insecure_channel(lite_server.grpc) as channel:
        yield channel


@pytest.mark.parametrize("case", of_litert(test_grpc.CASES))
def test_recorded_grpc_answer(case: dict[str, Any], channel: grpc.Channel, kitchen: Path) -> None:
    """As on TensorFlow."""
    test_grpc.check(case, channel, kitchen.parent)


def test_the_others_are_few() -> None:
    """Each is a recorded case; those that LiteRT is stricter with are noted as bad inputs."""
    cases = [*test_rest.CASES, *test_grpc.CASES]
    assert {case["name"] for case in cases} >= OTHERS.keys()
    assert all("stricter" in case["note"] for case in cases if OTHERS.get(case["name"]) == _STRICT)
    assert sum(case["name"] not in OTHERS for case in cases) == 85
