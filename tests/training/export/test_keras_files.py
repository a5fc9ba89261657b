"""Keras models in files: which files a model has, what they are made with, and what is said of those that fail."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.exports import small_model
from training import runs
from training.errors import TrainingUsageError
from training.export.keras_files import custom_objects, keras_errors, load_model, model_files

RULE = "a model is a .keras or .h5 file, a .json file with --weights, or a SavedModel's directory"


@pytest.mark.parametrize(
    ("file", "weights", "expected"),
    [
        ("a.keras", None, ["a.keras"]),
        ("a.h5", None, ["a.h5"]),
        ("a.json", None, ["a.json", "a.weights.h5"]),
        ("a.json", "w.h5", ["a.json", "w.h5"]),
    ],
)
def test_the_files_of_a_model(tmp_path: Path, file: str, weights: str | None, expected: list[str]) -> None:
    """JSON has its weights beside it, or where they are named; each file must be there."""
    named = tmp_path / weights if weights else None
    for name in expected:
        with pytest.raises(TrainingUsageError) as error:
            model_files(tmp_path / file, named)
        assert str(error.value) == f"No file {tmp_path / name}: {RULE}"
        (tmp_path / name).touch()
    assert model_files(tmp_path / file, named) == tuple(tmp_path / name for name in expected)


@pytest.mark.parametrize(
    ("file", "weights"), [("a.txt", None), ("a", None), ("a.keras", "w.h5"), ("a.h5", "w.h5"), ("a.txt", "w.h5")]
)
def test_files_of_no_model(tmp_path: Path, file: str, weights: str | None) -> None:
    """Another ending, or weights for a file that has its own."""
    (tmp_path / file).touch()
    with pytest.raises(TrainingUsageError) as error:
        model_files(tmp_path / file, tmp_path / weights if weights else None)
    assert str(error.value) == f"{tmp_path / file}: {RULE}"


def test_a_model_comes_back_from_its_files(tmp_path: Path) -> None:
    """Whole, without what it was compiled with, or as JSON with weights."""
    model = small_model()
    model.compile(loss="mse")
    runs.save_model(model, tmp_path)
    for arguments in ((tmp_path / runs.MODEL,), (tmp_path / runs.ARCHITECTURE, tmp_path / runs.WEIGHTS)):
        loaded = load_model(*arguments)
        assert loaded.compiled == (len(arguments) > 1)
        for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)


LAYERS = '''
"""Layers of somebody's."""
import keras
NUMBER = 3
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs
def halved(inputs):
    return inputs / 2
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working directory, which is nowhere else found."""
    path = tmp_path / "somebodys_layers.py"
    path.write_text(LAYERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "somebodys_layers", raising=False)
    return path


@pytest.mark.parametrize("kind", ["name", "file"])
def test_a_module_s_classes_and_functions_are_known_by_name(module: Path, kind: str) -> None:
    """By the module's name, found from here too, or by its file; later ones count before earlier ones."""
    named = "somebodys_layers" if kind == "name" else str(module)
    objects = custom_objects([named])
    assert {"Doubled", "halved"} == objects.keys()
    assert objects["Doubled"].__module__ == "somebodys_layers"
    assert "somebodys_layers" in sys.modules
    assert sys.path.count(str(module.parent)) == (1 if kind == "name" else 0)
    custom_objects([named])
    assert sys.path.count(str(module.parent)) == (1 if kind == "name" else 0)
    (module.parent / "others.py").write_text("def halved(inputs):\n    return inputs\n")
    assert custom_objects([named, str(module.parent / "others.py")])["halved"].__module__ == "others"
    assert custom_objects([]) == {}


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("none.py", "FileNotFoundError: [Errno 2] No such file or directory: '{}/none.py'"),
        ("broken.py", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported(module: Path, named: str, reason: str) -> None:
    """Whatever its code raises is told."""
    (module.parent / "broken.py").write_text("1 / 0\n")
    with pytest.raises(TrainingUsageError) as error:
        custom_objects([named])
    assert str(error.value) == (
        f"--import {named}: {reason.format(module.parent)}: name a module that Python finds here, or a .py file"
    )


def test_layers_of_somebody_s_are_given(module: Path, tmp_path: Path) -> None:
    """Without them the error names the layer, and the option."""
    objects = custom_objects([str(module)])
    model = keras.Sequential([keras.Input((2,)), objects["Doubled"]()])
    model.save(tmp_path / "a.keras")
    (tmp_path / "a.json").write_text(model.to_json())
    model.save_weights(tmp_path / "a.weights.h5")
    for file, weights in ((tmp_path / "a.keras", None), (tmp_path / "a.json", tmp_path / "a.weights.h5")):
        loaded = load_model(file, weights, objects)
        np.testing.assert_array_equal(loaded(np.ones((1, 2), np.float32)).numpy(), [[2, 2]])
    (tmp_path / "a.json").write_text(model.to_json().replace("somebodys_layers", "gone"))
    with pytest.raises(TrainingUsageError) as error:
        load_model(tmp_path / "a.json", tmp_path / "a.weights.h5")
    assert str(error.value) == (
        f"{tmp_path}/a.json needs Doubled, which is not Keras's: name the module or .py file that has it with --import"
    )


TEXTS: list[tuple[Exception, str]] = [
    (ValueError("one\ntwo"), "Keras cannot run m.keras: one"),
    (OSError("\n\n  later \n"), "Keras cannot run m.keras: later"),
    (TypeError(), "Keras cannot run m.keras: TypeError"),
    (KeyError("k"), "Keras cannot run m.keras: 'k'"),
    (AttributeError("\x1b[1mbold\x1b[0m"), "Keras cannot run m.keras: bold"),
    (
        RuntimeError("Exception encountered when calling Layer.call().\n\nthe reason\n"),
        "Keras cannot run m.keras: the reason",
    ),
    (NotImplementedError("a. Exception encountered: the cause"), "Keras cannot run m.keras: the cause"),
    (
        ValueError("The `Lambda` layer needs safe_mode=False"),
        (
            "m.keras has a Lambda layer, which is Python code inside the file: it is not run (Keras's safe mode). "
            "Write it as a layer of its own, save the model again, and name the layer's module with --import"
        ),
    ),
    (ValueError("The `Lambda` layer"), "Keras cannot run m.keras: The `Lambda` layer"),
    (ValueError("a safe_mode that is on"), "Keras cannot run m.keras: a safe_mode that is on"),
    (
        ValueError("Unknown activation function: 'wavy'. Please"),
        "m.keras needs wavy, which is not Keras's: name the module or .py file that has it with --import",
    ),
    (
        TypeError("Could not locate function 'wavy'. Make sure"),
        "m.keras needs wavy, which is not Keras's: name the module or .py file that has it with --import",
    ),
    (
        ValueError("No model config found in the file"),
        "m.keras holds weights only: save the whole model, or name its .json with --from and this with --weights",
    ),
]


@pytest.mark.parametrize(("raised", "text"), TEXTS)
def test_what_keras_says_is_told_in_one_line(raised: Exception, text: str) -> None:
    """Its first line that says something, or the fix where the cause is known."""
    with pytest.raises(TrainingUsageError) as error, keras_errors("run", Path("m.keras")):
        raise raised
    assert str(error.value) == text
    assert error.value.__cause__ is raised


def test_errors_of_other_kinds_are_not_keras_s() -> None:
    """They go on as they are."""
    with pytest.raises(ZeroDivisionError), keras_errors("run", Path("m.keras")):
        raise ZeroDivisionError
