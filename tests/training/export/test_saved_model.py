"""`fashion export --from DIRECTORY`: SavedModels of other people's, served as they are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE, SELF_TEST_FILE, WARMUP_FILE
from serving.apis.self_test import read_archive
from serving.apis.tfrecord import read_records
from serving.embedded.loading.litert.lite_model import load as load_lite
from serving.embedded.loading.load import version_load
from serving.embedded.loading.tensorflow.saved_model import load
from serving.embedded.models.storage import VersionDirectory
from tests.support.exports import invoke, manifest
from tests.support.other_models import iris

pytestmark = pytest.mark.usefixtures("steps_here")


def export(directory: Path, base: Path, *arguments: object) -> tuple[Path, str]:
    """The version that an export of the directory makes, and what is said of it."""
    result = invoke("export", "--from", directory, "--model-base-path", base, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n"), result.stderr
    return base / "1", result.stderr


def test_its_files_are_copied_and_it_answers_on_both_runtimes(toys: Path, tmp_path: Path) -> None:
    """Byte for byte, with a manifest, a self-test, warmup requests and a model for LiteRT beside them."""
    source = toys / "half_plus_two" / "1"
    version, _ = export(source, tmp_path / "half")
    for file in filter(Path.is_file, source.rglob("*")):
        assert (version / file.relative_to(source)).read_bytes() == file.read_bytes()
    assert version.stat().st_mode & 0o777 == 0o755
    record = manifest(version)
    assert (record["model_name"], record["run"], record["class_names"]) == ("half", "1", [])
    assert record["model"] == {"name": "1", "layers": [], "parameters": 1}
    assert set(record["self_test"]["largest_differences"]) == {"serving_default"}
    for runtime in (load, load_lite):
        version_load(runtime, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_assets_come_along(toys: Path, tmp_path: Path) -> None:
    """A vocabulary in a file."""
    source = toys / "assets" / "1"
    version, said = export(source, tmp_path / "words")
    [asset] = (source / "assets").iterdir()
    assert (version / "assets" / asset.name).read_bytes() == asset.read_bytes()
    reason = f"without {LITE_MODEL_FILE}, so not for the light server: LiteRT has no operation StringToHashBucketFast"
    assert said.endswith(f"Note: {reason}\n")


def test_scalars_and_a_fixed_number_of_rows_are_fed_once(tmp_path: Path) -> None:
    """One warmup request, of what the signature takes; an asset may have a name of the export's own."""
    module = tf.Module()
    (tmp_path / "manifest.json").write_text("of its maker's")
    module.asset = tf.saved_model.Asset(str(tmp_path / "manifest.json"))

    specs = [
        tf.TensorSpec([2, 3], tf.float32, "rows"),
        tf.TensorSpec([], tf.int32, "count"),
        tf.TensorSpec([], tf.float64, "factor"),
        tf.TensorSpec([], tf.string, "name"),
    ]

    def serving_default(rows: tf.Tensor, count: tf.Tensor, factor: tf.Tensor, name: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": rows * tf.cast(count, tf.float32), "z": factor, "name": name}

    tf.saved_model.save(module, str(tmp_path / "m"), signatures=tf.function(serving_default, specs))
    version, _ = export(tmp_path / "m", tmp_path / "scalars", "--no-lite")
    assert (version / "assets" / "manifest.json").read_text() == "of its maker's"
    assert {
        name: array.shape for name, array in read_archive(version / SELF_TEST_FILE)["serving_default"].inputs.items()
    } == {
        "rows": (2, 3),
        "count": (),
        "factor": (),
        "name": (),
    }
    assert len(list(read_records(version / WARMUP_FILE))) == 1
    version_load(load, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_signatures_that_cannot_be_fed_are_not_tested_and_said_to_be(toys: Path, tmp_path: Path) -> None:
    """Examples of unknown features, of an export of TensorFlow 1; the others are tested."""
    version, said = export(toys / "tf1" / "00000123", tmp_path / "tf1", "--no-lite")
    cases = read_archive(version / SELF_TEST_FILE)
    assert "classify_x_to_y" not in cases
    assert cases
    assert (
        "Note: classify_x_to_y is not tested, as it cannot be run on inputs made from its signature: Could not parse "
        "example input, value: "
    ) in said
    version_load(load, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_golden_examples_test_them(toys: Path, tmp_path: Path) -> None:
    """Strings, under the signature's name; what else there is, is left to what is made."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(4)
    model = tf.saved_model.load(str(toys / "tf1" / "00000123"))
    [name] = model.signatures["regress_x_to_y"].structured_input_signature[1]
    examples = np.array([example.SerializeToString()])
    outputs = model.signatures["regress_x_to_y"](**{name: tf.constant(examples.tolist())})
    arrays: dict[str, Any] = {f"regress_x_to_y/outputs/{key}": value.numpy() for key, value in outputs.items()}
    arrays[f"regress_x_to_y/inputs/{name}"] = examples
    np.savez(tmp_path / "golden.npz", **arrays)
    version, _ = export(toys / "tf1" / "00000123", tmp_path / "tf1", "--no-lite", "--golden", tmp_path / "golden.npz")
    assert read_archive(version / SELF_TEST_FILE)["regress_x_to_y"].inputs[name].tolist() == examples.tolist()


def test_a_dtype_that_an_archive_cannot_hold_is_not_tested(toys: Path, tmp_path: Path) -> None:
    """bfloat16 is none of NumPy's own; no signature is left to be tested."""
    version, said = export(toys / "many_types" / "1", tmp_path / "types", "--no-lite")
    assert read_archive(version / SELF_TEST_FILE) == {}
    assert "Self-test passed" not in said
    assert ": bfloat16 is bfloat16, which no NumPy archive holds: --golden FILE.npz gives others\n" in said


def test_a_signature_by_two_names_keeps_both_on_litert(tmp_path: Path) -> None:
    """Keras's own export writes `serve` and `serving_default`, of which LiteRT's converter keeps one."""
    iris().export(tmp_path / "iris_model", verbose=False)
    version, said = export(tmp_path / "iris_model", tmp_path / "iris")
    assert re.match(r"Self-test passed: 2 signatures answer as the trained model does, on LiteRT too, within ", said)
    assert (version / LITE_MODEL_FILE).is_file()
    version_load(load_lite, require_manifest=True)("m", 1, VersionDirectory(version)).close()


def test_a_warmup_file_of_its_own_stays(toys: Path, tmp_path: Path) -> None:
    """What we would have made is not written over it; a manifest of somebody's is."""
    source = Path(shutil.copytree(toys / "half_plus_two" / "1", tmp_path / "source"))
    extra = source / "assets.extra"
    extra.mkdir()
    first, _ = export(toys / "half_plus_two" / "1", tmp_path / "first", "--no-lite")
    own = (first / WARMUP_FILE).read_bytes()
    (source / WARMUP_FILE).write_bytes(own)
    (extra / "manifest.json").write_text(json.dumps({"files": {}}))
    (extra / "notes.txt").write_text("of its maker's")
    version, _ = export(source, tmp_path / "half", "--no-lite")
    assert (version / WARMUP_FILE).read_bytes() == own
    assert (version / "assets.extra" / "notes.txt").read_text() == "of its maker's"
    assert manifest(version)["files"]


def test_a_saved_model_of_garments_may_have_their_name(exported_version: Path, base: Path) -> None:
    """A version from elsewhere that takes and gives what ours does; files of images are not made for its self-test."""
    version, said = export(exported_version, base)
    assert re.match(r"Self-test passed: 2 signatures answer as the trained model does, on LiteRT too, within ", said)
    assert [note.split()[0] for note in manifest(version)["notes"]] == ["classify", "encoded_images"]
    for name in ("saved_model.pb", WARMUP_FILE):
        assert (version / name).read_bytes() == (exported_version / name).read_bytes()


def test_a_directory_that_is_no_saved_model(run: Path, toys: Path, tmp_path: Path) -> None:
    """A run says how a run is exported; a damaged one what TensorFlow says; options for Keras models are refused."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / SAVED_MODEL_FILE).write_bytes(b"no model")
    tf.saved_model.save(tf.Module(), str(tmp_path / "silent"))
    source = toys / "half_plus_two" / "1"
    (tmp_path / "names").write_text("a\nb\n")
    model = "is a SavedModel"
    for path, arguments, name, expected in (
        (run, (), "m", f"{run} holds no saved_model.pb: fashion export {run}\n"),
        (tmp_path, (), "m", f"{tmp_path} holds no saved_model.pb: a model is a .keras or .h5 file, a .json file with "),
        (tmp_path / "bad", (), "m", f"TensorFlow cannot load {tmp_path / 'bad'}: "),
        (tmp_path / "silent", (), "m", f"{tmp_path / 'silent'} has no signature: save it with signatures={{"),
        (source, ("--class-names", tmp_path / "names"), "m", "--class-names and --import are for Keras models: a "),
        (source, ("--input-range", "0..1"), "m", f"{source} {model}: --input-range is for classifiers of ten garments"),
        (source, (), "fashion_mnist", f"{source} {model}, and clients send garments to fashion_mnist: give it a name"),
    ):
        result = invoke("export", "--from", path, "--model-base-path", tmp_path / "models" / name, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: {expected}"), result.stderr
        assert not (tmp_path / "models").exists()
