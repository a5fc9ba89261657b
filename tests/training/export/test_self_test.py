"""The self-test: a version is held to what Keras gave, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fashion_common.layout import SELF_TEST_FILE
from tests.support.exports import small_model
from training.errors import SelfTestError
from training.export.decoding import IMAGE_SIZE
from training.export.self_test import (
    Tensors,
    read_tensors,
    run_self_test,
    write_tensors,
)
from training.export.signatures import write_saved_model


@pytest.fixture(scope="module")
def golden(exported: Path) -> Tensors:
    """The golden tensors of the exported version."""
    return read_tensors(exported / SELF_TEST_FILE)


def test_golden_tensors_are_of_every_signature(golden: Tensors) -> None:
    """16 rows each, with the dtypes and shapes of the served signatures."""
    assert {"/".join(key): (tensor.dtype.name, tensor.shape) for key, tensor in golden.items()} == {
        "serving_default/inputs/images": ("uint8", (16, IMAGE_SIZE, IMAGE_SIZE)),
        "serving_default/outputs/probabilities": ("float32", (16, 10)),
        "serving_default/outputs/class_ids": ("int64", (16,)),
        "serving_default/outputs/class_names": ("object", (16,)),
        "encoded_images/inputs/image_bytes": ("object", (16,)),
        "encoded_images/outputs/probabilities": ("float32", (16, 10)),
        "encoded_images/outputs/class_ids": ("int64", (16,)),
        "encoded_images/outputs/class_names": ("object", (16,)),
        "float_images/inputs/images": ("float32", (16, IMAGE_SIZE, IMAGE_SIZE)),
        "float_images/outputs/probabilities": ("float32", (16, 10)),
        "classify/inputs/inputs": ("object", (16,)),
        "classify/outputs/classes": ("object", (16, 10)),
        "classify/outputs/scores": ("float32", (16, 10)),
    }


def test_golden_outputs_tell_much_and_do_not_hang_on_a_rounding(golden: Tensors) -> None:
    """The best class leads clearly in every row, none is certain, and the rows are of several classes."""
    probabilities = np.sort(golden["float_images", "outputs", "probabilities"], axis=1)
    assert (probabilities[:, -1] - probabilities[:, -2]).min() > 0.1
    assert probabilities.max() < 0.95
    assert len(set(golden["serving_default", "outputs", "class_ids"].tolist())) > 1


def test_weights_that_drifted_by_a_thousandth_are_seen(version: Path) -> None:
    """One layer's kernel, as a lossy conversion might leave it."""
    model = small_model()
    kernel, *rest = model.get_weights()
    model.set_weights([kernel * 1.001, *rest])
    write_saved_model(model, version)
    with pytest.raises(
        SelfTestError, match=r"^serving_default/probabilities differs by up to 0\.\d+: at most 1e-05 is"
    ):
        run_self_test(version)


def test_the_archive_gives_back_what_was_written(tmp_path: Path) -> None:
    """Strings of any length survive, with the zeros at their ends, and the same tensors give the same bytes."""
    strings = np.array([[b"", b"a\0\0"], [b"\0", b"bcd"]], object)
    tensors: Tensors = {
        ("s", "inputs", "x"): strings,
        ("s", "outputs", "y"): np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    for name in ("one", "two"):
        write_tensors(tmp_path / name / "self_test.npz", tensors)
    read = read_tensors(tmp_path / "one" / "self_test.npz")
    assert list(read) == list(tensors)
    assert all(np.array_equal(read[key], tensors[key]) and read[key].dtype == tensors[key].dtype for key in tensors)
    assert (tmp_path / "one" / "self_test.npz").read_bytes() == (tmp_path / "two" / "self_test.npz").read_bytes()


def test_a_sound_version_passes(exported: Path) -> None:
    """Every signature answers within the tolerance."""
    differences = run_self_test(exported)
    assert list(differences) == ["serving_default", "encoded_images", "float_images", "classify"]
    assert max(differences.values()) <= 1e-5


def nudged(tensor: np.ndarray) -> np.ndarray:
    """More than the tolerance in one element."""
    tensor = tensor.copy()
    tensor[3, 4] += 2e-5
    return tensor


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        (
            ("float_images", "outputs", "probabilities"),
            nudged,
            "float_images/probabilities differs by up to 2e-05: at most 1e-05 is allowed",
        ),
        (
            ("classify", "outputs", "scores"),
            lambda t: t * np.nan,
            "classify/scores differs by up to nan: at most 1e-05 is",
        ),
        (
            ("serving_default", "outputs", "class_ids"),
            lambda t: np.where(np.arange(16) < 2, (t + 1) % 10, t),
            "serving_default/class_ids differs in 2 of 16 elements",
        ),
        (
            ("encoded_images", "outputs", "class_names"),
            lambda _: np.full(16, b"Toga", object),
            "encoded_images/class_names differs in 16 of 16 elements",
        ),
        (
            ("float_images", "outputs", "probabilities"),
            lambda t: t[:, :9],
            "float_images/probabilities is float32 (16, 10), expected float32 (16, 9)",
        ),
        (
            ("encoded_images", "inputs", "image_bytes"),
            lambda t: t[::-1],
            "encoded_images/probabilities differs by up to ",
        ),
        (
            ("encoded_images", "inputs", "image_bytes"),
            lambda _: np.full(16, b"no image", object),
            "Signature encoded_images failed: ",
        ),
    ],
    ids=["float", "nan", "integers", "strings", "shape", "rows", "failing"],
)
def test_drift_is_refused_with_what_differs(version: Path, golden: Tensors, key, change, expected) -> None:
    """The message names the signature, the tensor and by how much."""
    write_tensors(version / SELF_TEST_FILE, {**golden, key: change(golden[key])})
    with pytest.raises(SelfTestError) as caught:
        run_self_test(version)
    assert str(caught.value).startswith(expected)


def test_a_missing_signature_or_output_is_refused(version: Path, golden: Tensors) -> None:
    """What the archive promises has to be there."""
    scores = golden["classify", "outputs", "scores"]
    write_tensors(version / SELF_TEST_FILE, {**golden, ("regress", "outputs", "scores"): scores})
    with pytest.raises(SelfTestError, match=r"^Signature regress is missing: the version has \w+(, \w+){3}$"):
        run_self_test(version)
    write_tensors(version / SELF_TEST_FILE, {**golden, ("classify", "outputs", "logits"): scores})
    with pytest.raises(SelfTestError, match=r"^classify has no output logits$"):
        run_self_test(version)


def test_a_damaged_version_is_refused(version: Path) -> None:
    """No archive, half an archive, half a SavedModel: one line each."""
    (version / "saved_model.pb").write_bytes((version / "saved_model.pb").read_bytes()[:5000])
    with pytest.raises(SelfTestError, match=f"^TensorFlow cannot load {version}: "):
        run_self_test(version)
    archive = version / SELF_TEST_FILE
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(SelfTestError, match=rf"^The self-test {archive} is damaged \(.+\): export the version again$"):
        run_self_test(version)
    archive.unlink()
    with pytest.raises(
        SelfTestError, match=f"^No self-test at {archive}: only versions made by `fashion export` have one$"
    ):
        run_self_test(version)
