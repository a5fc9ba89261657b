"""`fashion export`: runs and files become versions that prove themselves first."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import DATA, invoke, make_run, pictures, small_model, with_accuracy

from training import models, synthetic
from training.dataset import CLASS_NAMES
from training.evaluate import evaluate
from training.self_test import run_self_test
from training.self_test_process import self_test_process

PASSED = r"Self-test passed: 4 signatures answer as Keras does, within \d\.\de-\d\d\n"


@contextmanager
def self_test_here() -> Iterator[Callable[[Path], dict[str, float]]]:
    """The self-test without its process, which takes seconds to start: the tests that need the process say so."""
    yield run_self_test


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.export.self_test_process", self_test_here)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to export; tests that change its figures put them back."""
    return make_run(tmp_path_factory.mktemp("runs") / "a-run")


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as version 1, not to be changed."""
    base = tmp_path_factory.mktemp("models") / "fashion_mnist"
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    return base / "1"


@pytest.fixture
def version(exported: Path, base: Path) -> Path:
    """A copy of it under a base path of its own."""
    return Path(shutil.copytree(exported, base / "1"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base path of its own."""
    return tmp_path / "fashion_mnist"


def children(path: Path) -> list[str]:
    """What lies there, hidden or not."""
    return sorted(child.name for child in path.iterdir())


def manifest(version: Path) -> dict[str, object]:
    """The version's manifest."""
    return json.loads((version / "assets.extra" / "manifest.json").read_text())


def test_export_takes_the_next_number_and_prints_the_path(run: Path, base: Path) -> None:
    """Numbers go on from the greatest version; stdout is the path, and the rest is told on stderr."""
    (base / "0007").mkdir(parents=True)
    (base / "notes").mkdir()
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '8'}\n")
    assert re.fullmatch(PASSED, result.stderr)
    assert children(base) == ["0007", "8", "notes"]


def test_export_as_json(run: Path, base: Path) -> None:
    """--json prints number, path, accuracy and differences, and nothing else."""
    result = invoke("export", run, "--model-base-path", base, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    differences = printed.pop("differences")
    assert printed == {"version": 1, "path": str(base / "1"), "accuracy": 0.88, "forced": [], "removed": []}
    assert list(differences) == ["serving_default", "encoded_images", "float_images", "classify"]
    assert max(differences.values()) <= 1e-6


def test_the_exported_directory_answers_as_the_run_s_model_in_all_its_forms(run: Path, exported: Path) -> None:
    """JSON with weights, HDF5, .keras and the SavedModel give the same probabilities for 256 images, within 1e-6."""
    images = pictures(256) / np.float32(255)
    rebuilt = keras.models.model_from_json((run / "model.json").read_text())
    rebuilt.load_weights(run / "model.weights.h5")
    served = tf.saved_model.load(str(exported))
    answers = [
        rebuilt.predict(images, verbose=0),
        keras.models.load_model(run / "model.h5", compile=False).predict(images, verbose=0),
        keras.models.load_model(run / "model.keras", compile=False).predict(images, verbose=0),
        served.signatures["float_images"](images=tf.constant(images))["probabilities"].numpy(),
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=0, atol=1e-6)


def test_the_version_holds_what_it_should_and_nothing_else(exported: Path) -> None:
    """The SavedModel, the warmup requests, the self-test and the manifest, readable for whoever serves it."""
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert files == {
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
        "assets.extra/tf_serving_warmup_requests",
        "assets.extra/self_test.npz",
        "assets.extra/manifest.json",
    }
    assert {path.stat().st_mode & 0o777 for path in [exported, *exported.rglob("*")] if path.is_dir()} == {0o755}
    assert sum(1 for _ in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))) == 32


def test_the_manifest_says_where_a_version_comes_from(exported: Path) -> None:
    """Run, recipe, model, figures, data, packages, revision, signatures, names, and the digest of every file."""
    found = manifest(exported)
    revision, exported_at, largest = found.pop("git_revision"), found.pop("exported_at"), found["self_test"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", exported_at)
    assert largest.pop("largest_differences").keys() == found["signatures"].keys()
    files = [path for path in (exported).rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert found.pop("files") == {
        path.relative_to(exported).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in files
    }
    signatures = found.pop("signatures")
    assert {name: facts["method_name"] for name, facts in signatures.items()} == {
        "serving_default": "tensorflow/serving/predict",
        "encoded_images": "tensorflow/serving/predict",
        "float_images": "tensorflow/serving/predict",
        "classify": "tensorflow/serving/classify",
    }
    assert signatures["serving_default"]["inputs"] == {"images": {"dtype": "uint8", "shape": [None, 28, 28]}}
    packages = ("fashion-mnist-serving", "keras", "numpy", "pillow", "tensorflow")
    assert found == {
        "model_name": "fashion_mnist",
        "run": "a-run",
        "recipe": "textbook",
        "accuracy": 0.88,
        "config": {"recipe": "textbook", "epochs": 5},
        "metrics": {"test_accuracy": 0.88, "test_loss": 0.5},
        "data": DATA,
        "model": {"name": "mlp", "layers": ["flatten", "hidden", "output"], "parameters": 101_770},
        "class_names": list(CLASS_NAMES),
        "self_test": {"tolerance": 1e-5},
        "replaced": None,
        "forced": [],
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: metadata.version(name) for name in packages},
    }


def test_a_version_that_answers_otherwise_is_not_published(run: Path, base: Path, monkeypatch) -> None:
    """The weights of another model: the new process refuses them with the figures, and nothing stays behind."""
    from training import signatures

    monkeypatch.setattr("training.export.self_test_process", self_test_process)
    monkeypatch.setattr(
        "training.export.write_saved_model", lambda _, path: signatures.write_saved_model(small_model(seed=8), path)
    )
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        r"Error: Not published, the self-test failed: serving_default/probabilities differs by up to 0\.\d+: "
        r"at most 1e-05 is allowed\n",
        result.stderr,
    )
    assert children(base) == []


def test_an_accuracy_below_the_minimum_is_refused_with_the_figures(run: Path, base: Path) -> None:
    """Nothing is written; --force publishes and is recorded."""
    demands = ("export", run, "--model-base-path", base, "--min-accuracy", 0.9)
    result = invoke(*demands)
    assert (result.exit_code, result.stdout) == (1, "")
    objection = "accuracy 0.8800 is below --min-accuracy 0.9"
    assert result.stderr == f"Error: Not exported: {objection} (--force exports it all the same)\n"
    assert not base.exists()
    forced = invoke(*demands, "--force")
    assert (forced.exit_code, forced.stdout) == (0, f"{base / '1'}\n")
    assert re.fullmatch(f"{PASSED}Forced: {re.escape(objection)}\n", forced.stderr)
    assert manifest(base / "1")["forced"] == [objection]


def test_a_version_worse_than_the_newest_is_refused_with_the_figures(run: Path, base: Path, version: Path) -> None:
    """By more than 0.01, or by what --max-regression says; a little worse is let through."""
    try:
        with_accuracy(run, 0.865)
        result = invoke("export", run, "--model-base-path", base)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: Not exported: accuracy 0.8650 is 0.0150 below version 1's 0.8800, more than --max-regression 0.01 "
            "(--force exports it all the same)\n"
        )
        allowed = invoke("export", run, "--model-base-path", base, "--max-regression", 0.02, "--json")
        assert json.loads(allowed.stdout)["version"] == 2
        assert manifest(base / "2")["replaced"] == {"version": 1, "accuracy": 0.88}
        with_accuracy(run, 0.856)  # only the version that it replaces counts
        assert invoke("export", run, "--model-base-path", base).exit_code == 0
    finally:
        with_accuracy(run, 0.88)
    assert children(base) == ["1", "2", "3"]


def test_figures_on_other_data_are_not_compared(run: Path, base: Path, version: Path) -> None:
    """A model of drawn garments does not silently replace one of the real images."""
    try:
        with_accuracy(run, 1.0, name="synthetic")
        result = invoke("export", run, "--model-base-path", base)
    finally:
        with_accuracy(run, 0.88)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Not exported: accuracy 1.0000 on synthetic cannot be compared with version 1's 0.8800 on fashion_mnist "
        "(--force exports it all the same)\n"
    )


def test_a_version_without_manifest_is_replaced_without_comparison(run: Path, base: Path) -> None:
    """There is no figure to be worse than."""
    (base / "3").mkdir(parents=True)
    (base / "3" / "saved_model.pb").write_bytes(b"made elsewhere")
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '4'}\n")


def test_keep_removes_old_versions_but_never_what_the_server_names(
    run: Path, base: Path, version: Path, tmp_path: Path
) -> None:
    """Of six versions the newest two, the one labelled stable and the one pinned by the policy stay."""
    for number in range(2, 6):
        shutil.copytree(version, base / str(number))
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "fashion_mnist" base_path: "/models/fashion_mnist" '
        "model_version_policy { specific { versions: 3 versions: 5 } } "
        'version_labels { key: "stable" value: 2 } } '
        'config { name: "other" base_path: "/models/other" version_labels { key: "stable" value: 1 } } }'
    )
    options = ("--model-base-path", base, "--keep", 2, "--model-config-file", config)
    result = invoke("export", run, *options)
    assert (result.exit_code, result.stdout) == (0, f"{base / '6'}\n")
    assert re.fullmatch(f"{PASSED}Removed: 1, 4\n", result.stderr)
    assert children(base) == ["2", "3", "5", "6"]


def test_an_unreadable_model_configuration_removes_nothing(run: Path, base: Path, tmp_path: Path) -> None:
    """Which version is labelled is not known then: asked wrongly, before anything is written."""
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config {")
    result = invoke("export", run, "--model-base-path", base, "--keep", 1, "--model-config-file", config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {config} is not a ModelServerConfig in text protobuf: ")
    assert not base.exists()


def test_with_copies_keras_s_own_files_lie_beside_the_saved_model(run: Path, base: Path) -> None:
    """All four forms of the run directory, covered by the manifest's digests."""
    assert invoke("export", run, "--model-base-path", base, "--with-copies").exit_code == 0
    recorded = manifest(base / "1")["files"]
    for name in ("model.keras", "model.json", "model.weights.h5", "model.h5"):
        assert (base / "1" / "assets.extra" / name).read_bytes() == (run / name).read_bytes()
        assert recorded[f"assets.extra/{name}"]["bytes"] == (run / name).stat().st_size


@pytest.mark.parametrize("form", ["model.h5", "model.keras", "model.json"])
def test_a_model_trained_elsewhere_is_measured_and_exported(run: Path, base: Path, monkeypatch, form: str) -> None:
    """From HDF5, .keras, or JSON with the weights beside it; its accuracy is measured on the test images."""
    drawn = synthetic.load()
    monkeypatch.setattr("training.trained.dataset.load", lambda _: drawn)
    result = invoke("export", "--from", run / form, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n")
    found = manifest(base / "1")
    expected = evaluate(small_model(), drawn.test_images, drawn.test_labels)
    assert (found["run"], found["recipe"], found["data"]["name"]) == (form, None, "synthetic")
    assert found["accuracy"] == pytest.approx(expected.accuracy)
    images = pictures(16) / np.float32(255)
    answer = tf.saved_model.load(str(base / "1")).signatures["float_images"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], small_model().predict(images, verbose=0), rtol=0, atol=1e-6)


def other_model(input_shape: tuple[int, ...], units: int, activation: str | None = "softmax") -> keras.Model:
    """A model that is not ours."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]
    return keras.Sequential([keras.layers.Input(input_shape), *layers])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda path: other_model((784,), 10).save(path),
            "{path} maps (None, 784) to (None, 10): a served model maps (None, 28, 28) to (None, 10)",
        ),
        (
            lambda path: other_model((28, 28), 2).save(path),
            "{path} maps (None, 28, 28) to (None, 2): a served model maps (None, 28, 28) to (None, 10)",
        ),
        (
            lambda path: path.write_bytes(b"not a model"),
            "Keras cannot load {path}: ",
        ),
        (lambda _: None, "No file {path}: a model is a .keras or .h5 file, or a .json file with --weights"),
    ],
    ids=["input", "output", "damaged", "missing"],
)
def test_a_file_that_cannot_be_served_is_asked_wrongly(base: Path, tmp_path: Path, make, expected: str) -> None:
    """The message names the file, what it is, and what it should be."""
    path = tmp_path / "elsewhere.keras"
    make(path)
    result = invoke("export", "--from", path, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {expected.format(path=path)}")
    assert not base.exists()


def test_a_model_that_gives_no_probabilities_is_asked_wrongly(base: Path, tmp_path: Path) -> None:
    """Logits would be served under the name of probabilities."""
    run = make_run(tmp_path / "run", model=other_model((28, 28), 10, activation="relu"))
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(
        r"Error: The model's outputs are no probabilities: a row sums to [\d.]+, not to 1: end it in softmax\n",
        result.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--from", "model.h5"], "RUN, --from and --verify exclude one another: name one of them"),
        (["--weights", "a.h5"], "--weights belongs to --from: name the model's .json file with --from"),
        (["--from", "model.pb"], "model.pb: a model is a .keras or .h5 file, or a .json file with --weights"),
        (["none"], "No trained model at none/model.keras: run `fashion train` first, or name a run directory"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], expected: str) -> None:
    """One line, exit code 2."""
    result = invoke("export", *arguments)
    assert (result.exit_code, result.output) == (2, f"Error: {expected}\n")


@pytest.mark.parametrize("most_bytes", [300_000, 4_000], ids=["in TensorFlow", "in Python"])
def test_a_full_disk_is_one_line_and_leaves_nothing(run: Path, base: Path, monkeypatch, most_bytes: int) -> None:
    """Whoever was writing when no more could be written."""
    if most_bytes < 300_000:
        monkeypatch.setattr("training.export.write_saved_model", lambda _, path: (path / "saved_model.pb").touch())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        result = invoke("export", run, "--model-base-path", base)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(rf"Error: Cannot write a version under {base}: .*File too large.*\n", result.stderr)
    assert children(base) == []


def test_a_subclassed_model_is_served_without_its_code(base: Path, tmp_path: Path) -> None:
    """Classes of our own answer as any model, and TensorFlow alone loads what was exported."""
    subclassed = models.build("mlp", "subclassed")
    run = make_run(tmp_path / "run", model=subclassed)
    assert invoke("export", run, "--model-base-path", base).exit_code == 0
    images = pictures(8)
    load = (
        "import sys, numpy, tensorflow as tf; images = numpy.load(sys.argv[2]);"
        "answer = tf.saved_model.load(sys.argv[1]).signatures['serving_default'](images=images);"
        "assert not any(name.partition('.')[0] in ('training', 'serving') for name in sys.modules);"
        "numpy.save(sys.argv[3], answer['probabilities'])"
    )
    np.save(tmp_path / "images.npy", images)
    paths = [base / "1", tmp_path / "images.npy", tmp_path / "answer.npy"]
    subprocess.run([sys.executable, "-c", load, *map(str, paths)], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    expected = subclassed(images / np.float32(255)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, rtol=0, atol=1e-6)


def test_verify_tests_a_version_where_it_arrived(exported: Path, tmp_path: Path) -> None:
    """A whole copy passes, with its figures as text or JSON."""
    copy = shutil.copytree(exported, tmp_path / "arrived" / "12")
    result = invoke("export", "--verify", copy)
    expected = rf"{copy}: 6 files as exported; 4 signatures answer as Keras does, within \d\.\de-\d\d\n"
    assert result.exit_code == 0
    assert re.fullmatch(expected, result.output)
    as_json = json.loads(invoke("export", "--verify", copy, "--json").stdout)
    assert (as_json["path"], as_json["files"], len(as_json["differences"])) == (str(copy), 6, 4)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda path: (path / "variables/variables.index").unlink(),
            "{path}/variables/variables.index is missing: copy",
        ),
        (
            lambda path: (path / "saved_model.pb").write_bytes(b""),
            "{path}/saved_model.pb is not the file that was exported (SHA-256 differs): copy the version again",
        ),
        (
            lambda path: (path / "assets.extra/manifest.json").write_text("{"),
            "The manifest {path}/assets.extra/manifest.json is damaged (",
        ),
        (
            lambda path: (path / "assets.extra/manifest.json").write_text(
                '{"files": {"../../secret": {"sha256": ""}}}'
            ),
            "The manifest of {path} names ../../secret, a file outside of the version",
        ),
        (shutil.rmtree, "No version at {path}: name a version's directory such as "),
    ],
    ids=["missing", "changed", "manifest", "outside", "nothing"],
)
def test_verify_refuses_a_version_that_arrived_damaged(base: Path, version: Path, damage, expected: str) -> None:
    """The message names the file."""
    damage(version)
    result = invoke("export", "--verify", version)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {expected.format(path=version)}")


def test_two_exports_at_once_in_processes_of_their_own(run: Path, base: Path, tmp_path: Path) -> None:
    """The command as users run it, twice at once, in a folder with a `training` of its own: two whole versions."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise SystemExit('not ours')")
    command = [Path(sys.executable).with_name("fashion"), "export", run, "--model-base-path", "fashion_mnist"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200) for process in both]
    assert sorted(out for out, _ in said) == ["fashion_mnist/1\n", "fashion_mnist/2\n"]
    assert all(re.fullmatch(PASSED, error) for _, error in said)
    assert children(base) == ["1", "2"]
    listed = json.loads(invoke("versions", "--model-base-path", base, "--json").stdout)
    assert [(version["version"], version["self_test"]) for version in listed] == [(2, "passed"), (1, "passed")]
    one, two = (
        {path.relative_to(base / name): path.read_bytes() for path in (base / name).rglob("*") if path.is_file()}
        for name in ("1", "2")
    )
    assert {path.name for path in one if one[path] != two[path]} <= {"manifest.json"}  # it has the date
