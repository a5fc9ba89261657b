"""`fashion export --from`: Keras models that are none of garments, with their own inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from fashion_common.layout import LITE_MODEL_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.apis.messages import PredictionLog
from serving.apis.self_test import read_archive
from serving.apis.tensors import make_ndarray
from serving.apis.tfrecord import read_records
from serving.embedded.loading.litert.lite_model import load as load_lite
from serving.embedded.loading.load import version_load
from serving.embedded.loading.tensorflow.saved_model import load
from serving.embedded.models.storage import VersionDirectory
from tests.support.exports import children, invoke, manifest
from tests.support.other_models import IRIS_NAMES, LAYERS, iris, strings, two_inputs
from training.export.acceptance import accept_signatures

pytestmark = pytest.mark.usefixtures("steps_here")

FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
DIFFERENCE = r"within \d\.\de[-+]\d\d\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models' files, not to be changed."""
    directory = tmp_path_factory.mktemp("others")
    for name, make in (("iris", iris), ("two", two_inputs), ("strings", strings)):
        make().save(directory / f"{name}.keras")
    (directory / "names.txt").write_text("\n".join(IRIS_NAMES) + "\n")
    return directory


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A directory of model base paths."""
    return tmp_path / "models"


def export(models: Path, file: Path, *arguments: object) -> Path:
    """The version that an export of the file makes."""
    base = models / file.stem
    result = invoke("export", "--from", file, "--model-base-path", base, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n"), result.stderr
    return base / "1"


def answer(version: Path, **inputs: Any) -> dict[str, Any]:
    """What its serving_default gives."""
    model = tf.saved_model.load(str(version))
    outputs = model.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: output.numpy() for name, output in outputs.items()}


def loaded_by_servers(version: Path) -> None:
    """It passes its warmup and its self-test on both runtimes."""
    for runtime in (load, load_lite):
        version_load(runtime, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_a_classifier_has_its_own_names_and_the_classes(files: Path, models: Path) -> None:
    """Keras's names, dtypes and shapes; class ids and names beside the probabilities, as garments have them."""
    version = export(models, files / "iris.keras", "--class-names", files / "names.txt")
    record = manifest(version)
    assert record["signatures"] == {
        "serving_default": {
            "method_name": "tensorflow/serving/predict",
            "inputs": {"x": {"dtype": "float32", "shape": [None, 4]}},
            "outputs": {
                "probabilities": {"dtype": "float32", "shape": [None, 3]},
                "class_ids": {"dtype": "int64", "shape": [None]},
                "class_names": {"dtype": "string", "shape": [None]},
            },
        }
    }
    assert (record["model_name"], record["class_names"], record["accuracy"]) == ("iris", list(IRIS_NAMES), None)
    assert record["model"] == {"name": "iris", "layers": ["hidden", "probabilities"], "parameters": 67}
    outputs = answer(version, x=FLOWERS)
    expected = iris().predict(FLOWERS, verbose=0)
    np.testing.assert_allclose(outputs["probabilities"], expected, rtol=0, atol=1e-6)
    assert outputs["class_ids"].tolist() == expected.argmax(axis=1).tolist()
    assert outputs["class_names"].tolist() == [IRIS_NAMES[row].encode() for row in expected.argmax(axis=1)]
    loaded_by_servers(version)


def test_without_class_names_it_is_as_it_is(files: Path, models: Path) -> None:
    """The model's own outputs, and the text says what was tested."""
    base = models / "iris"
    result = invoke("export", "--from", files / "iris.keras", "--model-base-path", base)
    assert re.fullmatch(
        rf"Self-test passed: 1 signature answers as the trained model does, on LiteRT too, {DIFFERENCE}", result.stderr
    )
    assert answer(base / "1", x=FLOWERS).keys() == {"probabilities"}
    assert manifest(base / "1")["class_names"] == []


def test_several_inputs_and_outputs(files: Path, models: Path) -> None:
    """By the names of Keras's inputs and last layers, of which a hyphen becomes an underscore; any length of text."""
    version = export(models, files / "two.keras")
    size, words = np.ones((2, 4), np.float32), np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    outputs = answer(version, size=size, words_in=words)
    price, kind = two_inputs().predict([size, words], verbose=0)
    np.testing.assert_allclose(outputs["price"], price, rtol=0, atol=1e-6)
    np.testing.assert_allclose(outputs["kind"], kind, rtol=0, atol=1e-6)
    loaded_by_servers(version)


def test_a_name_that_begins_with_a_digit_is_lengthened(models: Path, tmp_path: Path) -> None:
    """TensorFlow takes names as Python has them for inputs, and any for outputs."""
    layers = [keras.Input((2,), name="1st"), keras.layers.Activation("linear", name="sec.ond")]
    keras.Sequential(layers).save(tmp_path / "digits.keras")
    version = export(models, tmp_path / "digits.keras", "--no-lite")
    assert answer(version, in_1st=[[1.0, 2.0]])["sec.ond"].tolist() == [[1.0, 2.0]]


def test_pictures_of_any_size_and_an_input_that_is_an_output_run_on_both_runtimes(models: Path, tmp_path: Path) -> None:
    """LiteRT lays such a model out when it knows the sizes; a tensor may be called by two names."""
    pictures = keras.Input((None, None, 3), name="pictures")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(pictures))
    keras.Model(pictures, {"mean": mean, "same": pictures}).save(tmp_path / "any_size.keras")
    version = export(models, tmp_path / "any_size.keras")
    assert manifest(version)["notes"] == []
    loaded_by_servers(version)


def test_dictionaries_are_called_by_their_keys(models: Path, tmp_path: Path) -> None:
    """Inputs and outputs in a dictionary keep its keys."""
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    model = keras.Model({"left": left, "right": right}, {"sum": left + right, "difference": left - right})
    model.save(tmp_path / "sums.keras")
    version = export(models, tmp_path / "sums.keras")
    outputs = answer(version, left=np.full((1, 2), 3, np.float32), right=np.ones((1, 2), np.float32))
    assert {name: output.tolist() for name, output in outputs.items()} == {
        "sum": [[4.0, 4.0]],
        "difference": [[2.0, 2.0]],
    }


def test_lookup_tables_come_along(files: Path, models: Path) -> None:
    """A model of strings; LiteRT has no operations for it, which a line and the manifest say."""
    version = export(models, files / "strings.keras")
    assert answer(version, text=[["0 a"]])["kind"].shape == (1, 2)
    [note] = manifest(version)["notes"]
    operations = "RaggedTensorToTensor, StaticRegexReplace, StringLower, StringSplitV2"
    assert note == f"without {LITE_MODEL_FILE}, so not for the light server: LiteRT has no operation {operations}"
    version_load(load, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_two_names_for_one_column_are_below_a_half_and_the_rest(models: Path, tmp_path: Path) -> None:
    """A sigmoid's probability is of the second class, from 0.5 on."""
    model = keras.Sequential([keras.Input((1,), name="x"), keras.layers.Activation("linear", name="y")])
    model.save(tmp_path / "yes.keras")
    (tmp_path / "names.json").write_text('["no", "yes"]')
    version = export(models, tmp_path / "yes.keras", "--class-names", tmp_path / "names.json")
    outputs = answer(version, x=np.array([[0.49], [0.5], [1.0]], np.float32))
    assert outputs["class_ids"].tolist() == [0, 1, 1]
    assert outputs["class_names"].tolist() == [b"no", b"yes", b"yes"]


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files of models with layers of the user's own, in whose directory the command runs."""
    (tmp_path / "own_layers.py").write_text(LAYERS)
    code: dict[str, Any] = {"__name__": "own_layers_here"}
    exec(compile(LAYERS, "own_layers", "exec"), code)  # noqa: S102 - our own text
    keras.utils.set_random_seed(3)
    scaled = keras.Sequential([keras.Input((4,), name="x"), code["Scale"](), keras.layers.Dense(2, name="y")])
    paths = {name: tmp_path / name for name in ("scaled.keras", "scaled.h5", "net.keras")}
    scaled.save(paths["scaled.keras"])
    scaled.save(paths["scaled.h5"])
    net = code["Net"]()
    net(np.zeros((1, 4), np.float32))
    net.save(paths["net.keras"])
    monkeypatch.chdir(tmp_path)
    return paths


@pytest.mark.parametrize(
    ("file", "module"), [("scaled.keras", "own_layers.py"), ("scaled.h5", "own_layers"), ("net.keras", "own_layers")]
)
def test_layers_of_the_user_s_own_are_imported(
    custom: dict[str, Path], models: Path, file: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module or a .py file; a server needs neither. A subclassed model takes `inputs`."""
    version = export(models, custom[file], "--import", module, "--no-lite")
    name = "inputs" if file == "net.keras" else "x"
    [output] = answer(version, **{name: FLOWERS}).values()
    assert output.shape == (2, 3 if file == "net.keras" else 2)


def lambda_layer(path: Path) -> None:
    """A model with Python in its file."""
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)]).save(path)


@keras.saving.register_keras_serializable("tests")
class Pair(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """A subclassed model with two inputs, of which Keras keeps no names."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Their sum."""
        return inputs[0] + inputs[1]


def shapeless(path: Path) -> None:
    """A model whose file does not say what it takes."""
    model = Pair()
    model([np.zeros((1, 2), np.float32)] * 2)
    model.save(path)


def bad_scope(path: Path) -> None:
    """A layer with a name that TensorFlow's graphs do not take."""
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="not a scope")]).save(path)


def sparse(path: Path) -> None:
    """A model of sparse tensors."""
    tensor = keras.Input((4,), sparse=True, name="x")
    keras.Model(tensor, keras.layers.Dense(2)(tensor)).save(path)


LAMBDA = (
    "{path} has a Lambda layer, which is Python code inside the file: it is not run (Keras's safe mode). Write it as "
)


@pytest.mark.parametrize(
    ("name", "make", "arguments", "expected"),
    [
        ("a.keras", lambda_layer, (), LAMBDA),
        ("a.h5", lambda_layer, (), LAMBDA),
        (
            "a.weights.h5",
            lambda path: iris().save_weights(path),
            (),
            "{path} holds weights only: save the whole model, ",
        ),
        (
            "a.keras",
            bad_scope,
            (),
            "Keras cannot run {path}: 'not a scope' is not a valid scope name. A scope name has to match ",
        ),
        (
            "a.keras",
            shapeless,
            (),
            "{path} does not say what it takes: make it of keras.Input, or call it on one array",
        ),
        ("a.keras", sparse, (), "{path}: input x is sparse, which no API of a server can carry: make it dense\n"),
        (
            "a.keras",
            lambda path: iris().save(path),
            ("--input-range", "0..255"),
            "{path} maps (None, 4) to (None, 3): --input-range is for classifiers of ten garments, from images of 28 ",
        ),
        (
            "a.keras",
            lambda path: iris().save(path),
            ("--import", "no_such_module"),
            "--import no_such_module: ModuleNotFoundError: No module named 'no_such_module': name a module that ",
        ),
        (
            "a.keras",
            lambda path: iris().save(path),
            ("--warmup-from", __file__),
            "--replay and --warmup-from take recorded garments: this model takes something else\n",
        ),
    ],
    ids=["lambda", "lambda in h5", "weights", "scope", "shapeless", "sparse", "range", "import", "recordings"],
)
def test_what_cannot_be_exported_is_asked_wrongly(
    models: Path,
    tmp_path: Path,
    name: str,
    make: Callable[[Path], None],
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    """One line that names the file, the rule and what to do; nothing is written."""
    path = tmp_path / name
    make(path)
    result = invoke("export", "--from", path, "--model-base-path", models / "a", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {expected.format(path=path)}")
    assert result.stderr.count("\n") == 1
    assert not models.exists()


@pytest.mark.parametrize("file", ["scaled.keras", "scaled.h5"])
def test_a_missing_layer_says_which_and_how(custom: dict[str, Path], models: Path, file: str) -> None:
    """Its name, and --import."""
    result = invoke("export", "--from", custom[file], "--model-base-path", models / "a")
    assert (result.exit_code, result.stdout) == (2, "")
    fix = "name the module or .py file that has it with --import"
    assert result.stderr == f"Error: {custom[file]} needs Scale, which is not Keras's: {fix}\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            "a\nb\n",
            "--class-names has 2 names, for one output [N, 2] of {file}: it has probabilities float32 [None, 3]",
        ),
        ("a\nb\na\n", "--class-names {names} has 3 names: at least two, each once, in label order"),
        ("a\n", "--class-names {names} has 1 names: at least two, each once, in label order"),
        ("a\n\nb\n", "--class-names {names} has an empty name: give one on each line, or a JSON list of strings"),
        ('["a", 1]', "--class-names {names} has an empty name: give one on each line, or a JSON list of strings"),
        ("[", "--class-names {names} cannot be read: "),
    ],
    ids=["count", "twice", "one", "empty", "number", "JSON"],
)
def test_class_names_that_do_not_fit(files: Path, models: Path, tmp_path: Path, names: str, expected: str) -> None:
    """The file, what it has and what it should have."""
    (tmp_path / "names").write_text(names)
    command = ("export", "--from", files / "iris.keras", "--model-base-path", models / "iris")
    result = invoke(*command, "--class-names", tmp_path / "names")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {expected.format(names=tmp_path / 'names', file=files / 'iris.keras')}")


def test_inputs_are_made_from_the_signature_and_are_the_same_each_time(files: Path, models: Path) -> None:
    """Seeded, by dtype and shape; the warmup requests are of the first row, in every batch size."""
    version = export(models, files / "two.keras", "--no-lite")
    [case] = read_archive(version / SELF_TEST_FILE).values()
    assert {name: (array.dtype.name, array.shape) for name, array in case.inputs.items()} == {
        "size": ("float32", (4, 4)),
        "words_in": ("int32", (4, 32)),
    }
    requests = [PredictionLog.FromString(record).predict_log.request for record in read_records(version / WARMUP_FILE)]
    assert [make_ndarray(request.inputs["size"]).shape for request in requests] == [(1, 4), (128, 4)]
    for request in requests:
        for name, tensor in request.inputs.items():
            array = make_ndarray(tensor)
            np.testing.assert_array_equal(array, np.repeat(case.inputs[name][:1], len(array), axis=0))
    again = invoke("export", "--from", files / "two.keras", "--model-base-path", version.parent, "--no-lite")
    assert again.exit_code == 0
    for name in (SELF_TEST_FILE, WARMUP_FILE):
        assert (version / name).read_bytes() == (version.parent / "2" / name).read_bytes()


def test_golden_inputs_take_the_place_of_made_ones(files: Path, models: Path, tmp_path: Path) -> None:
    """By the signature's names; what the model answers otherwise is not published."""
    golden = tmp_path / "golden.npz"
    probabilities = iris().predict(FLOWERS, verbose=0)
    # As NumPy makes them: 64 bit.
    np.savez(golden, x=FLOWERS.astype(np.float64), probabilities=probabilities.astype(np.float64))
    version = export(models, files / "iris.keras", "--golden", golden)
    [case] = read_archive(version / SELF_TEST_FILE).values()
    np.testing.assert_array_equal(case.inputs["x"], FLOWERS)
    loaded_by_servers(version)
    np.savez(golden, **{"inputs/x": FLOWERS, "outputs/probabilities": probabilities[::-1]})
    command = ("export", "--from", files / "iris.keras", "--model-base-path", models / "iris", "--golden", golden)
    result = invoke(*command)
    assert (result.exit_code, children(models / "iris")) == (1, ["1"])
    assert re.match(r"Error: output probabilities of serving_default differs by up to", result.stderr)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": FLOWERS}, "y is no input or output of serving_default: name inputs/x, outputs/probabilities"),
        (
            {"other/inputs/x": FLOWERS},
            "other/inputs/x is no input or output of other: name one of the signatures serving",
        ),
        ({"probabilities": np.zeros((1, 3))}, " has no x, which serving_default takes"),
        ({"x": FLOWERS}, " has no output of serving_default: probabilities"),
        ({"x": FLOWERS[:, :3]}, "x has the shape [2, 3]: expected (None, 4)"),
        ({"x": FLOWERS * 1j}, "x is complex64: expected float32"),
        ({"x": np.array([["a"] * 4])}, "x is <U1: expected float32"),
        (b"PK no archive", " cannot be read ("),
    ],
    ids=["name", "signature", "input", "output", "shape", "complex", "strings", "file"],
)
def test_a_golden_file_that_does_not_fit(
    files: Path, models: Path, tmp_path: Path, arrays: dict[str, Any] | bytes, expected: str
) -> None:
    """The file, the key, and what the signature has."""
    golden = tmp_path / "golden.npz"
    if isinstance(arrays, bytes):
        golden.write_bytes(arrays)
    else:
        np.savez(golden, **arrays)
    command = ("export", "--from", files / "iris.keras", "--model-base-path", models / "iris", "--golden", golden)
    result = invoke(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr
    assert result.stderr.startswith(f"Error: --golden {golden}")


def test_a_version_that_clients_would_have_to_call_otherwise_is_refused(models: Path, tmp_path: Path) -> None:
    """Inputs and outputs of the version that it replaces, by name; --force exports it, and the manifest says so."""
    for name, model in (("first", iris()), ("second", two_inputs())):
        model.save(tmp_path / f"{name}.keras")
    base = models / "m"
    command = ("export", "--model-base-path", base, "--no-lite")
    assert invoke(*command, "--from", tmp_path / "first.keras").exit_code == 0
    result = invoke(*command, "--from", tmp_path / "second.keras")
    assert (result.exit_code, result.stdout, children(base)) == (1, "", ["1"])
    inputs = "size float32 [None, 4], words_in int32 [None, None]"
    objection = f"serving_default takes {inputs}, and x float32 [None, 4] in version 1"
    assert result.stderr == f"Error: Not exported: {objection} (--force exports it all the same)\n"
    assert invoke(*command, "--from", tmp_path / "second.keras", "--force").exit_code == 0
    assert manifest(base / "2")["forced"] == [objection]


@pytest.mark.parametrize(
    ("now", "objection"),
    [
        ({"a": {"x": 4}}, ""),
        ({"a": {"x": 4}, "b": {"x": 4}}, ""),
        ({"b": {"x": 4}}, "version 3 has the signature a, which this one lacks"),
        ({"a": {"x": 5}}, "a takes x int8 [5], and x int8 [4] in version 3"),
    ],
    ids=["same", "more", "signature", "shape"],
)
def test_what_clients_send_stays(now: dict[str, dict[str, int]], objection: str) -> None:
    """Signatures and inputs of the predecessor; another output is no matter as long as those that were there are."""
    outputs = {"y": {"dtype": "int8", "shape": [1]}}

    def described(signatures: dict[str, dict[str, int]], outputs: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "inputs": {key: {"dtype": "int8", "shape": [size]} for key, size in inputs.items()},
                "outputs": outputs,
            }
            for name, inputs in signatures.items()
        }

    manifest = {"signatures": described({"a": {"x": 4}}, outputs)}
    expected = [objection] if objection else []
    assert accept_signatures(described(now, outputs | {"z": {}}), (3, manifest), force=True) == expected
    assert accept_signatures(described({"a": {"x": 4}}, {}), (3, manifest), force=True) == [
        "a does not give y, as it does in version 3"
    ]
    assert accept_signatures(described(now, outputs), None, force=False) == []


@keras.saving.register_keras_serializable("tests")
class Hidden(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A layer whose variable is where nobody looks."""

    variables_of_ours: tuple[tf.Variable, ...] = ()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The input, by a factor of the class's."""
        if not Hidden.variables_of_ours:
            with tf.init_scope():
                Hidden.variables_of_ours = (tf.Variable(2.0),)
        return inputs * Hidden.variables_of_ours[0]


def test_a_variable_that_the_model_does_not_have_is_one_line(models: Path, tmp_path: Path) -> None:
    """TensorFlow saves what the model's attributes hold."""
    model = keras.Sequential([keras.Input((4,)), Hidden()], name="hiding")
    model.save(tmp_path / "hidden.keras")
    result = invoke("export", "--from", tmp_path / "hidden.keras", "--model-base-path", models / "hidden")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "Error: Not exported: TensorFlow cannot save hiding (Tried to export a function which "
    )
    assert result.stderr.endswith("): keep what a custom layer needs in its attributes\n")
    assert children(models / "hidden") == []


def noise(path: Path) -> None:
    """A model that answers otherwise each time."""
    keras.Sequential([keras.Input((4,)), Noise(name="y")]).save(path)


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Draws its output."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Uniform numbers."""
        return tf.random.uniform(tf.shape(inputs))


def test_what_cannot_be_tested_is_said(models: Path, tmp_path: Path) -> None:
    """A model of chance, and one that answers with no number: published, with a line and a note in the manifest."""
    noise(tmp_path / "noise.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(np.inf, -np.inf, name="y")]).save(
        tmp_path / "nan.keras"
    )
    for name, reason in (
        (
            "noise",
            r"output y of serving_default differs by up to 0\.\d+: at most 1e-05 is allowed when it is asked twice",
        ),
        ("nan", "output y is not finite for inputs made from the signature"),
    ):
        base = models / name
        result = invoke("export", "--from", tmp_path / f"{name}.keras", "--model-base-path", base, "--no-lite")
        assert result.exit_code == 0
        note = (
            f"serving_default is not tested, as it cannot be run on inputs made from its signature: {reason}: "
            r"--golden FILE\.npz gives others"
        )
        assert re.fullmatch(f"Note: {note}\n", result.stderr)
        assert re.fullmatch(note, *manifest(base / "1")["notes"])
        version_load(load)("m", 1, VersionDirectory(base / "1")).close()
