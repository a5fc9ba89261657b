"""`fashion export`: runs and files become versions that prove themselves first."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from fashion_common.served_model import CLASS_NAMES
from tests.support.console import PASSED
from tests.support.exports import DATA, children, invoke, manifest, pictures, small_model
from training.export.step_process import step_process

pytestmark = pytest.mark.usefixtures("steps_here")


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
    output = json.loads(result.stdout)
    differences, litert_differences = output.pop("differences"), output.pop("litert_differences")
    assert output == {
        "version": 1,
        "path": str(base / "1"),
        "accuracy": 0.88,
        "forced": [],
        "removed": [],
        "replay": None,
        "notes": [],
    }
    assert list(differences) == ["serving_default", "encoded_images", "float_images", "classify"]
    assert list(litert_differences) == ["serving_default", "float_images"]
    assert max(*differences.values(), *litert_differences.values()) <= 1e-6


def test_the_exported_directory_answers_as_the_run_s_model_in_all_its_forms(run: Path, exported_version: Path) -> None:
    """JSON with weights, HDF5, .keras and the SavedModel give the same probabilities for 256 images, within 1e-6."""
    images = pictures(256) / np.float32(255)
    from_json = keras.models.model_from_json((run / "model.json").read_text())
    from_json.load_weights(run / "model.weights.h5")
    saved_model = tf.saved_model.load(str(exported_version))
    answers = [
        from_json.predict(images, verbose=0),
        keras.models.load_model(run / "model.h5", compile=False).predict(images, verbose=0),
        keras.models.load_model(run / "model.keras", compile=False).predict(images, verbose=0),
        saved_model.signatures["float_images"](images=tf.constant(images))["probabilities"].numpy(),
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=0, atol=1e-6)


def test_the_version_holds_what_it_should_and_nothing_else(exported_version: Path) -> None:
    """Both models, the warmup requests, the self-test and the manifest, readable for whoever serves it."""
    files = {path.relative_to(exported_version).as_posix() for path in exported_version.rglob("*") if path.is_file()}
    assert files == {
        "saved_model.pb",
        "model.tflite",
        "fingerprint.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
        "assets.extra/tf_serving_warmup_requests",
        "assets.extra/self_test.npz",
        "assets.extra/manifest.json",
    }
    assert {
        path.stat().st_mode & 0o777 for path in [exported_version, *exported_version.rglob("*")] if path.is_dir()
    } == {0o755}
    assert (
        sum(1 for _ in tf.data.TFRecordDataset(str(exported_version / "assets.extra" / "tf_serving_warmup_requests")))
        == 8
    )


def test_the_manifest_says_where_a_version_comes_from(exported_version: Path) -> None:
    """Run, recipe, model, figures, data, packages, revision, signatures, names, and the digest of every file."""
    record = manifest(exported_version)
    revision, exported_at, largest = record.pop("git_revision"), record.pop("exported_at"), record["self_test"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", exported_at)
    assert largest.pop("largest_differences").keys() == record["signatures"].keys()
    assert largest.pop("litert_largest_differences").keys() == {"serving_default", "float_images"}
    files = [path for path in exported_version.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert record.pop("files") == {
        path.relative_to(exported_version).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in files
    }
    signatures = record.pop("signatures")
    assert {name: facts["method_name"] for name, facts in signatures.items()} == {
        "serving_default": "tensorflow/serving/predict",
        "encoded_images": "tensorflow/serving/predict",
        "float_images": "tensorflow/serving/predict",
        "classify": "tensorflow/serving/classify",
    }
    assert signatures["serving_default"]["inputs"] == {"images": {"dtype": "uint8", "shape": [None, 28, 28]}}
    packages = ("ai-edge-litert", "fashion-mnist-serving", "keras", "numpy", "pillow", "tensorflow")
    assert record == {
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
        "replay": None,
        "notes": [],
        "forced": [],
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: metadata.version(name) for name in packages},
    }


def test_a_version_that_answers_otherwise_is_not_published(
    run: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of another model: the new process refuses them with the figures, and nothing stays behind."""
    from training.export import signatures

    monkeypatch.setattr("training.export.export.step_process", step_process)
    monkeypatch.setattr(
        "training.export.garments.write_saved_model",
        lambda _, path: signatures.write_saved_model(small_model(seed=8), path),
    )
    result = invoke("export", run, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        r"Error: Not published, the self-test failed: output probabilities of serving_default differs by up to 0\.\d+: "
        r"at most 1e-05 is allowed\n",
        result.stderr,
    )
    assert children(base) == []


def test_with_copies_keras_s_own_files_lie_beside_the_saved_model(run: Path, base: Path) -> None:
    """All four forms of the run directory, covered by the manifest's digests."""
    assert invoke("export", run, "--model-base-path", base, "--with-copies", "--no-lite").exit_code == 0
    files = manifest(base / "1")["files"]
    for name in ("model.keras", "model.json", "model.weights.h5", "model.h5"):
        assert (base / "1" / "assets.extra" / name).read_bytes() == (run / name).read_bytes()
        assert files[f"assets.extra/{name}"]["bytes"] == (run / name).stat().st_size


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--from", "model.h5"], "RUN, --from and --verify exclude one another: name one of them"),
        (["--weights", "a.h5"], "--weights belongs to --from: name the model's file with --from"),
        (
            ["--from", "model.pb"],
            "model.pb: a model is a .keras or .h5 file, a .json file with --weights, or a SavedModel's directory",
        ),
        (["none"], "No trained model at none/model.keras: run `fashion train` first, or name a run directory"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], expected: str) -> None:
    """One line, exit code 2."""
    result = invoke("export", *arguments)
    assert (result.exit_code, result.output) == (2, f"Error: {expected}\n")


def test_a_base_path_that_cannot_be_read_is_one_line(run: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason and what to do, exit code 2; --keep says that the version is there all the same."""
    rule = "make it readable, or choose another --model-base-path"
    result = invoke("export", run, "--model-base-path", long := base.parent / ("x" * 300))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: Cannot read the versions under {long} (File name too long): {rule}\n"

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("training.export.export.newest_with_manifest", denied)
        result = invoke("export", run, "--model-base-path", base)
        assert result.exit_code == 2
        assert result.stderr == f"Error: Cannot read the versions under {base} (Permission denied): {rule}\n"
    monkeypatch.setattr("training.export.export.remove_old_versions", denied)
    result = invoke("export", run, "--model-base-path", base, "--no-lite", "--keep", 1)
    assert (result.exit_code, children(base)) == (1, ["1"])
    assert result.stderr == (
        f"Error: {base / '1'} is published, but no old version could be removed (Permission denied): "
        f"make {base} writable, or remove them yourself\n"
    )


@pytest.mark.parametrize("most_bytes", [300_000, 4_000], ids=["in TensorFlow", "in Python"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Path, base: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """Whoever was writing when no more could be written."""
    if most_bytes < 300_000:
        monkeypatch.setattr(
            "training.export.garments.write_saved_model", lambda _, path: (path / "saved_model.pb").touch()
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        result = invoke("export", run, "--model-base-path", base)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(rf"Error: Cannot write a version under {base}: .*File too large.*\n", result.stderr)
    assert children(base) == []


def test_two_exports_at_once_in_processes_of_their_own(run: Path, base: Path, tmp_path: Path) -> None:
    """The command as users run it, twice at once, in a folder with a `training` of its own: two whole versions.

    The same model gives the same bytes, but for the manifest, which has the date.
    """
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise SystemExit('not ours')")
    command = [str(Path(sys.executable).with_name("fashion")), "export", str(run), "--model-base-path", "fashion_mnist"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=200) for process in both]
    assert sorted(out for out, _ in outputs) == ["fashion_mnist/1\n", "fashion_mnist/2\n"]
    assert all(re.fullmatch(PASSED, error) for _, error in outputs)
    assert children(base) == ["1", "2"]
    versions = json.loads(invoke("versions", "--model-base-path", base, "--json").stdout)
    assert [(version["version"], version["self_test"]) for version in versions] == [(2, "passed"), (1, "passed")]
    first, second = (
        {path.relative_to(base / name): path.read_bytes() for path in (base / name).rglob("*") if path.is_file()}
        for name in ("1", "2")
    )
    assert {path.name for path in first if first[path] != second[path]} <= {"manifest.json"}
