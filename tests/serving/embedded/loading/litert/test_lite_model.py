"""A model.tflite as a servable: toy models with exact answers."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.apis.tensors import Array
from serving.embedded.admission.resources import bound_allocator, resident_bytes
from serving.embedded.inference.model import Servable
from serving.embedded.loading.litert.lite_model import LiteModel, _reason, load
from serving.embedded.models.storage import VersionDirectory
from serving.errors import FailedPrecondition, InvalidArgument, ServingError
from tests.serving.embedded.models.test_manifest import write_manifest

X = np.array([1.0, 4.0], np.float32)


def read(toys: Path, name: str, pools: int = 1, interpreters_per_pool: int = 1) -> LiteModel:
    """A toy model."""
    return LiteModel((toys / name / "1" / "model.tflite").read_bytes(), pools, interpreters_per_pool)


def ask(
    model: Servable, inputs: Mapping[str, Array], signature_name: str = "serving_default"
) -> dict[str, list[object]]:
    """The outputs of a signature by their aliases."""
    signature = model.signatures[signature_name]
    feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
    values = model.run(feeds, [info.name for info in signature.outputs.values()])
    return {alias: value.tolist() for alias, value in zip(signature.outputs, values, strict=True)}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_a_batch_of_any_size(lite_toys: Path, count: int) -> None:
    """An interpreter is fitted to each."""
    x = np.arange(count, dtype=np.float32)

    model = read(lite_toys, "half_plus_two")

    assert ask(model, {"x": X}) == {"y": [2.5, 4.0], "bias": [2.0, 2.0]}
    assert ask(model, {"x": x}) == {"y": (x / 2 + 2).tolist(), "bias": [2.0] * count}


def test_strings(lite_toys: Path) -> None:
    """In and out, whatever bytes they have, and none at all."""
    model = read(lite_toys, "strings")
    for words in ([b"a\0b\0", b"", b"\xff\xfe", "é".encode()], []):
        count = len(words)
        inputs = {"words": np.array(words, object), "x": np.ones((count, 2), np.float32)}
        assert ask(model, inputs) == {"row": words, "column": [[word] for word in words], "y": [[2.0, 2.0]] * count}


def test_inputs_that_are_no_plain_rows(lite_toys: Path) -> None:
    """Views of other arrays are read as what they show; a value decides how often a loop runs."""
    mixed = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    words = np.array([b"a", b"b"], object)

    assert ask(read(lite_toys, "strings"), {"words": words, "x": mixed.T})["y"] == [[2.0, 6.0], [4.0, 8.0]]
    assert ask(read(lite_toys, "loop"), {"x": X, "n": np.array(3, np.int32)}) == {"y": [4.0, 7.0]}


def test_which_outputs_may_run_on_the_event_loop(lite_toys: Path) -> None:
    """None of a model that has loops."""
    assert read(lite_toys, "loop").loop_free == frozenset()
    model = read(lite_toys, "half_plus_two")
    assert model.loop_free == {info.name for info in model.signatures["serving_default"].outputs.values()}


def test_two_signatures_in_one_run(lite_toys: Path) -> None:
    """As MultiInference asks them: two subgraphs, whose tensors have the same names."""
    model = read(lite_toys, "two")
    double, triple = model.signatures["double"], model.signatures["triple"]
    feeds = {double.inputs["x"].name: X, triple.inputs["x"].name: X}

    assert ask(model, {"x": X}, "triple") == {"y": [3.0, 12.0]}
    values = model.run(feeds, [triple.outputs["y"].name, double.outputs["y"].name])
    assert [value.tolist() for value in values] == [[3.0, 12.0], [2.0, 8.0]]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": np.float32(1)}, r"^Input serving_default_x:0 takes the shape \[\?\], not \[\]$"),
        ({"x": X.reshape(1, 2)}, r"takes the shape \[\?\], not \[1,2\]$"),
        ({"x": X.astype(np.float64)}, "Got value of type FLOAT64 but expected type FLOAT32"),
        ({}, "^You must feed a value for the tensor serving_default_x:0$"),
    ],
    ids=["scalar", "matrix", "doubles", "nothing"],
)
def test_a_request_that_does_not_fit(lite_toys: Path, inputs: dict[str, Array], text: str) -> None:
    """Is refused, and the next one is answered: nothing of an earlier request is left in its answer."""
    model = read(lite_toys, "half_plus_two")
    ask(model, {"x": X})

    with pytest.raises(InvalidArgument, match=text):
        ask(model, inputs)
    assert ask(model, {"x": X * 2})["y"] == [3.0, 6.0]


def test_inputs_of_different_sizes(lite_toys: Path) -> None:
    """A size that is fixed must be the model's own."""
    words = np.array([b"a"], object)
    with pytest.raises(InvalidArgument, match=r"takes the shape \[\?,2\], not \[1,3\]$"):
        ask(read(lite_toys, "strings"), {"words": words, "x": np.ones((1, 3), np.float32)})


def test_names_that_there_are_not(lite_toys: Path) -> None:
    """A warmup file may ask for any tensor."""
    model = read(lite_toys, "half_plus_two")
    y = model.signatures["serving_default"].outputs["y"].name
    for feeds, fetches in (({"z:0": X}, [y]), ({"serving_default_x:0": X}, ["z:0"])):
        with pytest.raises(InvalidArgument, match=r"^Tensor z:0 is none of the model's signatures'$"):
            model.run(feeds, fetches)


@pytest.mark.parametrize("pools", [1, 2])
def test_many_threads(lite_toys: Path, pools: int) -> None:
    """More runs at a time than interpreters are kept: each has its own answer."""
    model = read(lite_toys, "half_plus_two", pools)
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait(30)
        for count in range(1, 40):
            x = np.full(count, number, np.float32)
            assert ask(model, {"x": x})["y"] == [number / 2 + 2] * count

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert len(model._interpreters._waiting) <= pools
    model.close()


def test_the_event_loop_waits_for_no_interpreter(lite_toys: Path) -> None:
    """While threads have all of them it makes one of its own, and keeps it."""
    model = read(lite_toys, "half_plus_two")
    interpreters = model._interpreters
    x = np.ones(1, np.float32)

    async def on_the_loop() -> object:
        return ask(model, {"x": x})["y"]

    with interpreters._places:
        busy = interpreters._waiting.pop()
        assert asyncio.run(on_the_loop()) == [2.5]
        interpreters._waiting.append(busy)
    assert len(interpreters._waiting) == 2
    model.close()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_a_batch_split_over_interpreters(lite_toys: Path, count: int) -> None:
    """The parts' answers are one answer; a model of two inputs is not split."""
    x = np.arange(count, dtype=np.float32)
    model = read(lite_toys, "half_plus_two", 1, 3)

    assert ask(model, {"x": x})["y"] == (x / 2 + 2).tolist()
    words = np.full(count, b"w", object)
    strings = read(lite_toys, "strings", 1, 3)
    assert ask(strings, {"words": words, "x": np.ones((count, 2), np.float32)})["row"] == [b"w"] * count
    for each in (model, strings):
        each.close()


def own_process(growth: Callable[[Path], int], toys: Path) -> int:
    """What it gives in a process of its own: threads that other tests left take memory when they please."""
    code = f"import sys, pathlib, {growth.__module__} as m; print(m.{growth.__name__}(pathlib.Path(sys.argv[1])))"
    return int(subprocess.run([sys.executable, "-c", code, str(toys)], stdout=subprocess.PIPE, check=True).stdout)


def growth_with_rounds(toys: Path) -> int:
    """By how many bytes the process grows over ten rounds, once it has had five."""
    bound_allocator()
    content = (toys / "half_plus_two" / "1" / "model.tflite").read_bytes()

    def work(rounds: int) -> None:
        for _ in range(rounds):
            model = LiteModel(content, 2)
            for count in (1, 128, 3_000_000, 2, 1000):
                ask(model, {"x": np.zeros(count, np.float32)})
                with pytest.raises(InvalidArgument):
                    ask(model, {"x": np.zeros((count, 1), np.float32)})
            model.close()

    work(5)
    before = resident_bytes()
    work(10)
    return resident_bytes() - before


def growth_with_a_large_run(toys: Path) -> int:
    """By how many bytes the process has grown after a run of 80 MB and a small one."""
    bound_allocator()
    model = read(toys, "half_plus_two")
    ask(model, {"x": X})
    before = resident_bytes()
    ask(model, {"x": np.zeros(20_000_000, np.float32)})
    ask(model, {"x": X})
    return resident_bytes() - before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_stays_as_it_is(lite_toys: Path) -> None:
    """Over runs of all sizes, those that fail and large ones included, and over loads."""
    assert own_process(growth_with_rounds, lite_toys) < 2**22


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_large_run_leaves_nothing_behind(lite_toys: Path) -> None:
    """An interpreter keeps the memory of its largest run: it goes with it."""
    assert own_process(growth_with_a_large_run, lite_toys) < 2**24


def test_what_cannot_be_loaded(lite_toys: Path, tmp_path: Path) -> None:
    """One clear text each; the manager goes on serving the old version, as for any other."""
    good = (lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes()
    broken = "is empty, cut or no LiteRT model: copy the version again$"
    contents = {
        b"": broken,
        b"no model": broken,
        good[:-1]: broken,
        good[: len(good) // 2]: broken,
        (lite_toys / "flex" / "1" / "model.tflite").read_bytes(): "LiteRT has no operation FlexRoll: convert",
    }
    with pytest.raises(FailedPrecondition, match=r"^The version has no model\.tflite, and LiteRT serves nothing"):
        load(VersionDirectory(tmp_path))
    for content, text in contents.items():
        (tmp_path / "model.tflite").write_bytes(content)
        with pytest.raises(ServingError, match=text):
            load(VersionDirectory(tmp_path))
    (tmp_path / "model.tflite").write_bytes(good)
    assert ask(load(VersionDirectory(tmp_path)), {"x": X})["y"] == [2.5, 4.0]
    (tmp_path / "assets.extra").mkdir()
    write_manifest(tmp_path)
    assert ask(load(VersionDirectory(tmp_path), pools=2, interpreters_per_pool=2), {"x": X})["y"] == [2.5, 4.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty, cut or no LiteRT model: copy the version again"),
        ("The model is not a valid Flatbuffer buffer", "it is empty, cut or no LiteRT model: copy the version again"),
        ("`model_path` must be specified.", "it is empty, cut or no LiteRT model: copy the version again"),
        (
            "Node number 1 (FlexRoll) failed to prepare.",
            "LiteRT has no operation FlexRoll: convert the model to its own operations",
        ),
        (
            "Encountered unresolved custom op: Mine. See",
            "LiteRT has no operation Mine: convert the model to its own operations",
        ),
        (" something else\n", "something else"),
    ],
)
def test_what_is_said_of_a_model_that_cannot_be_loaded(text: str, reason: str) -> None:
    """What to do where that is known, else LiteRT's own text."""
    assert _reason(text) == reason


def test_a_model_file_that_cannot_be_read(lite_toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the system's reason; one that is missing with what to do."""
    version = VersionDirectory(tmp_path)
    with pytest.raises(FailedPrecondition) as raised:
        load(version)
    assert str(raised.value) == (
        "The version has no model.tflite, and LiteRT serves nothing else: export it anew, or with TensorFlow installed "
        "leave --runtime out"
    )
    (tmp_path / "model.tflite").write_bytes((lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes())

    def denied(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", denied)
        with pytest.raises(FailedPrecondition, match=rf"^{tmp_path}/model\.tflite cannot be read: Permission denied$"):
            load(version)


def test_how_many_interpreters_a_version_has(lite_toys: Path, tmp_path: Path) -> None:
    """A pool for each processor, of one interpreter each, unless it is said otherwise; none once it is closed."""
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "model.tflite").write_bytes((lite_toys / "half_plus_two" / "1" / "model.tflite").read_bytes())
    write_manifest(tmp_path)
    version = VersionDirectory(tmp_path)
    for pools, each, expected in (
        (0, 0, (os.cpu_count(), 1)), (2, 0, (2, 1)), (2, 3, (6, 3)), (0, 1, (os.cpu_count(), 1)),
    ):  # fmt: skip
        made = load(version, pools=pools, interpreters_per_pool=each)
        assert isinstance(made, LiteModel)
        assert (made._interpreters._kept, made._interpreters._parts) == expected
        assert made.runtime == "LiteRT"
        assert made._interpreters._waiting != []
        made.close()
        assert made._interpreters._waiting == []


def test_the_steps_of_so_many_subsets_are_remembered(lite_toys: Path) -> None:
    """A client may ask for any outputs in any order and number: 64 are known, and the others answered all the same."""
    model = read(lite_toys, "half_plus_two")
    definition = model.signatures["serving_default"]
    feed, y = definition.inputs["x"].name, definition.outputs["y"].name
    for count in range(1, 67):
        values = model.run({feed: X}, [y] * count)
        assert [value.tolist() for value in values] == [[2.5, 4.0]] * count
        assert len(model._steps) == min(count, 64)
    steps = model._steps
    assert all(len(key[1]) <= 64 for key in steps)
    assert [len(key[0]) for key in itertools.islice(steps, 1)] == [1]
