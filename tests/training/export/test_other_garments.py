"""`fashion export --from`: classifiers of ten garments in other shapes and ranges than ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from fashion_common.layout import LITE_MODEL_FILE
from tests.support.console import AGREEMENT
from tests.support.exports import children, invoke, make_run, manifest, with_accuracy
from tests.support.other_models import classifier_of_garments
from training.data.dataset import Dataset

pytestmark = pytest.mark.usefixtures("steps_here", "drawn")

Pixels = Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]


@pytest.fixture(scope="module")
def drawn(synthetic_data: Dataset) -> Iterator[None]:
    """Models are measured on the drawn garments that they were trained on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.export.trained.dataset.load", lambda _: synthetic_data)
        yield


def to_1(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """0 to 1."""
    return images.astype(np.float32) / np.float32(255)


def to_255(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """0 to 255."""
    return images.astype(np.float32)


def around_0(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """-1 to 1."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def as_they_are(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Bytes."""
    return images


class Kind(NamedTuple):
    """A model's file, what it takes and how it is made, and the options of its export."""

    file: str
    shape: tuple[int, ...]
    pixels: Pixels
    options: Mapping[str, Any] = MappingProxyType({})
    arguments: tuple[str, ...] = ()


def tanh() -> keras.layers.Layer:
    """What pixels of another range saturate."""
    return keras.layers.Conv2D(6, 3, 3, activation="tanh")


KINDS = {
    "784": Kind("flat.keras", (784,), to_1),
    "a channel, 0..255": Kind("cnn.keras", (28, 28, 1), to_255, {"hidden": [tanh()]}, ("--input-range", "0..255")),
    "-1..1": Kind("around.h5", (28, 28, 1), around_0, {"hidden": [tanh()]}, ("--input-range", "-1..1")),
    "logits": Kind("logits.keras", (28, 28), to_1, {"logits": True}),
    "bytes": Kind(
        "bytes.keras", (28, 28), as_they_are, {"hidden": [keras.layers.Rescaling(1 / 255)], "dtype": "uint8"}
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_raw_pixels_get_the_answer_of_the_model_on_its_own(
    kind: Kind, base: Path, tmp_path: Path, synthetic_data: Dataset
) -> None:
    """The four signatures, on both runtimes; its range is in the manifest, and logits become probabilities."""
    path = tmp_path / kind.file
    model = classifier_of_garments(synthetic_data, path, kind.shape, kind.pixels, **kind.options)
    result = invoke("export", "--from", path, "--model-base-path", base, *kind.arguments)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n"), result.stderr
    note = "Note: the outputs are no probabilities but logits: the served model ends in softmax\n"
    assert re.fullmatch(f"Self-test passed: {AGREEMENT}" + (note if kind.file == "logits.keras" else ""), result.stderr)
    images = synthetic_data.test_images[:50]
    answer = tf.saved_model.load(str(base / "1")).signatures["serving_default"](images=tf.constant(images))
    expected = model.predict(kind.pixels(images).reshape(-1, *kind.shape), verbose=0)
    if kind.file == "logits.keras":
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(expected))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-5)
    record = manifest(base / "1")
    default = "0..255" if kind.file == "bytes.keras" else "0..1"
    assert record["config"] == {"input_range": kind.arguments[1] if kind.arguments else default}
    assert record["accuracy"] > 0.7
    assert record["model"]["parameters"] == model.count_params()


def test_pixels_of_another_range_are_refused_with_the_one_that_fits(
    base: Path, tmp_path: Path, synthetic_data: Dataset
) -> None:
    """Every range with its accuracy, and the option; --force exports it, and the manifest says what was overridden."""
    path = tmp_path / "cnn.keras"
    classifier_of_garments(synthetic_data, path, (28, 28, 1), to_255, hidden=[tanh()])
    command = ("export", "--from", path, "--model-base-path", base)
    result = invoke(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    objection = (
        r"accuracy 0\.\d{4} on synthetic with pixels 0\.\.1, 0\.\d{4} with 0\.\.255, 0\.\d{4} with -1\.\.1: "
        r"it was trained on pixels of another range: fashion export --input-range 0\.\.255"
    )
    assert re.fullmatch(rf"Error: Not exported: {objection} \(--force exports it all the same\)\n", result.stderr)
    assert not base.exists()
    assert invoke(*command, "--force", "--no-lite").exit_code == 0
    [forced] = manifest(base / "1")["forced"]
    assert re.fullmatch(objection, forced)


def test_a_model_that_guesses_in_every_range_is_refused(base: Path, tmp_path: Path) -> None:
    """It may be of other classes: the text says how those are exported."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    model.layers[-1].set_weights([np.zeros((784, 10)), np.arange(10)])
    model.save(tmp_path / "digits.keras")
    result = invoke("export", "--from", tmp_path / "digits.keras", "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Not exported: accuracy 0.1000 on synthetic with pixels 0..1, 0.1000 with 0..255, 0.1000 with -1..1: it "
        "guesses, so it was trained on other pixels or other classes: name other classes with --class-names (--force "
        "exports it all the same)\n"
    )


def test_a_run_that_guesses_is_refused(run: Path, base: Path, tmp_path: Path) -> None:
    """Below two in ten; at two it is not said."""
    result = invoke("export", with_accuracy(run, tmp_path / "low", 0.1999), "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Not exported: accuracy 0.1999 is that of guessing: train it anew (--force exports it all the same)\n"
    )
    edge = invoke("export", with_accuracy(run, tmp_path / "edge", 0.2), "--model-base-path", base, "--no-lite")
    assert edge.exit_code == 0


def test_what_litert_cannot_run_is_published_without_its_file(
    base: Path, tmp_path: Path, synthetic_data: Dataset
) -> None:
    """A line says so, and the manifest; a run's model, which the light server is to have, is refused."""
    path = tmp_path / "sequence.keras"
    classifier_of_garments(synthetic_data, path, (28, 28), to_1, hidden=[keras.layers.LSTM(16)])
    result = invoke("export", "--from", path, "--model-base-path", base)
    assert (result.exit_code, result.stdout) == (0, f"{base / '1'}\n"), result.stderr
    [note] = manifest(base / "1")["notes"]
    assert note.startswith(
        f"without {LITE_MODEL_FILE}, so not for the light server: 'tf.TensorListReserve' op requires "
    )
    assert result.stderr.endswith(f"Note: {note}\n")
    assert not (base / "1" / LITE_MODEL_FILE).exists()
    run = make_run(tmp_path / "run", model=keras.models.load_model(path))
    refused = invoke("export", run, "--model-base-path", base)
    assert (refused.exit_code, children(base)) == (1, ["1"])


def test_golden_images_of_the_user_s_own_are_held_to_too(base: Path, tmp_path: Path, synthetic_data: Dataset) -> None:
    """Under the signature's names; what the model answers otherwise is not published."""
    path, golden = tmp_path / "flat.keras", tmp_path / "golden.npz"
    model = classifier_of_garments(synthetic_data, path, (784,), to_1)
    images = synthetic_data.test_images[:5]
    probabilities = model.predict(to_1(images).reshape(5, 784), verbose=0)
    np.savez(golden, images=images, probabilities=probabilities)
    command = ("export", "--from", path, "--model-base-path", base, "--golden", golden, "--no-lite")
    result = invoke(*command)
    assert result.exit_code == 0, result.stderr
    np.savez(golden, images=images, probabilities=probabilities[::-1])
    result = invoke(*command)
    assert (result.exit_code, children(base)) == (1, ["1"])
    assert re.match(r"Error: output probabilities of serving_default differs by up to 0\.\d+: at most", result.stderr)
