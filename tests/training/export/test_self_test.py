"""The self-test: a version is held to what Keras gave, wherever it lies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fashion_common.layout import LITE_MODEL_FILE, SELF_TEST_FILE
from serving.apis.self_test import Array, Case, read_archive, write_archive
from tests.support.exports import small_model
from training.errors import SelfTestError
from training.export.decoding import IMAGE_SIZE
from training.export.self_test import run_self_test
from training.export.signatures import write_saved_model

Cases = dict[str, Case]


@pytest.fixture(scope="module")
def golden(exported_version: Path) -> Cases:
    """The golden cases of the exported version."""
    return read_archive(exported_version / SELF_TEST_FILE)


def changed(golden: Cases, signature: str, side: str, name: str, tensor: Array) -> Cases:
    """The cases with one tensor in place of, or beside, what is there."""
    case = golden.get(signature, Case({}, {}))
    return {**golden, signature: case._replace(**{side: {**case._asdict()[side], name: tensor}})}


def test_golden_tensors_are_of_every_signature(golden: Cases) -> None:
    """16 rows each, with the dtypes and shapes of the served signatures."""

    def described(tensors: dict[str, Array]) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}

    best = {"probabilities": ("float32", (16, 10)), "class_ids": ("int64", (16,)), "class_names": ("object", (16,))}
    assert {name: (described(case.inputs), described(case.outputs)) for name, case in golden.items()} == {
        "serving_default": ({"images": ("uint8", (16, IMAGE_SIZE, IMAGE_SIZE))}, best),
        "encoded_images": ({"image_bytes": ("object", (16,))}, best),
        "float_images": (
            {"images": ("float32", (16, IMAGE_SIZE, IMAGE_SIZE))},
            {"probabilities": ("float32", (16, 10))},
        ),
        "classify": (
            {"inputs": ("object", (16,))},
            {"classes": ("object", (16, 10)), "scores": ("float32", (16, 10))},
        ),
    }


def test_golden_outputs_tell_much_and_do_not_hang_on_a_rounding(golden: Cases) -> None:
    """The best class leads clearly in every row, none is certain, and the rows are of several classes."""
    probabilities = np.sort(golden["float_images"].outputs["probabilities"], axis=1)
    assert (probabilities[:, -1] - probabilities[:, -2]).min() > 0.1
    assert probabilities.max() < 0.95
    assert len(set(golden["serving_default"].outputs["class_ids"].tolist())) > 1


def test_weights_that_drifted_by_a_thousandth_are_seen(version: Path) -> None:
    """One layer's kernel, as a lossy conversion might leave it."""
    model = small_model()
    kernel, *rest = model.get_weights()
    model.set_weights([kernel * 1.001, *rest])
    write_saved_model(model, version)
    expected = r"^output probabilities of serving_default differs by up to 0\.\d+: at most 1e-05 is allowed$"
    with pytest.raises(SelfTestError, match=expected):
        run_self_test(version)


def test_a_sound_version_passes(exported_version: Path) -> None:
    """Every signature answers within the tolerance."""
    on_tensorflow, on_litert, _ = run_self_test(exported_version)
    assert list(on_tensorflow) == ["serving_default", "encoded_images", "float_images", "classify"]
    assert list(on_litert) == ["serving_default", "float_images"]
    assert max(*on_tensorflow.values(), *on_litert.values()) <= 1e-5


def nudged(tensor: Array) -> Array:
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
            "output probabilities of float_images differs by up to 2e-05: at most 1e-05 is allowed",
        ),
        (
            ("classify", "outputs", "scores"),
            lambda tensor: tensor * np.nan,
            "output scores of classify differs by up to nan: at most 1e-05 is",
        ),
        (
            ("serving_default", "outputs", "class_ids"),
            lambda tensor: np.where(np.arange(16) < 2, (tensor + 1) % 10, tensor),
            "output class_ids of serving_default differs in 2 of 16 elements",
        ),
        (
            ("encoded_images", "outputs", "class_names"),
            lambda _: np.full(16, b"Toga", object),
            "output class_names of encoded_images differs in 16 of 16 elements",
        ),
        (
            ("float_images", "outputs", "probabilities"),
            lambda tensor: tensor[:, :9],
            "output probabilities of float_images is float32 [16, 10]: expected float32 [16, 9]",
        ),
        (
            ("encoded_images", "inputs", "image_bytes"),
            lambda tensor: tensor[::-1],
            "output probabilities of encoded_images differs by up to ",
        ),
        (
            ("encoded_images", "inputs", "image_bytes"),
            lambda _: np.full(16, b"no image", object),
            "Signature encoded_images failed: ",
        ),
    ],
    ids=["float", "nan", "integers", "strings", "shape", "rows", "failing"],
)
def test_drift_is_refused_with_what_differs(
    version: Path, golden: Cases, key: tuple[str, str, str], change: Callable[[Array], Array], expected: str
) -> None:
    """The message names the signature, the tensor and by how much."""
    signature, side, name = key
    tensor = change(golden[signature]._asdict()[side][name])
    write_archive(version / SELF_TEST_FILE, changed(golden, signature, side, name, tensor))
    with pytest.raises(SelfTestError) as caught:
        run_self_test(version)
    assert str(caught.value).startswith(expected)


def test_a_missing_signature_or_output_is_refused(version: Path, golden: Cases) -> None:
    """What the archive promises has to be there."""
    scores = golden["classify"].outputs["scores"]
    write_archive(version / SELF_TEST_FILE, changed(golden, "regress", "outputs", "scores", scores))
    with pytest.raises(SelfTestError, match=r"^signature regress is missing: there are \w+(, \w+){3}$"):
        run_self_test(version)
    write_archive(version / SELF_TEST_FILE, changed(golden, "classify", "outputs", "logits", scores))
    with pytest.raises(SelfTestError, match=r"^signature classify has no output logits$"):
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


def test_the_model_for_litert_is_held_to_the_same(version: Path) -> None:
    """Other weights, and half a file: one line each."""
    lite_model = version / LITE_MODEL_FILE
    content = bytearray(lite_model.read_bytes())
    # Among the weights, which are most of the file: one of them becomes another number.
    content[len(content) // 2 | 3] ^= 0x40
    lite_model.write_bytes(content)
    expected = r"output probabilities of serving_default differs by up to \S+: at most 1e-05 is allowed, on LiteRT"
    assert re.fullmatch(expected, run_self_test(version).litert_failure)
    lite_model.write_bytes(content[:5000])
    failure = run_self_test(version).litert_failure
    assert failure.startswith(f"LiteRT cannot run {lite_model}: The model is not a valid Flatbuffer")
