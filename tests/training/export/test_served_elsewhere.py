"""Models of other people's, from the export to a client's answer: both APIs, both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client import connect
from client.types import ModelSpec
from fashion_common.served_model import CLASS_NAMES
from tests.support.exports import invoke
from tests.support.live import running
from tests.support.other_models import IRIS_NAMES, classifier_of_garments, iris, two_inputs
from training.data.dataset import Dataset

FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


def export(directory: Path, name: str, source: Path, *arguments: object) -> None:
    """The source as version 1 of the model with this name."""
    result = invoke("export", "--from", source, "--model-base-path", directory / "models" / name, *arguments)
    assert result.exit_code == 0, result.stderr


@pytest.mark.usefixtures("steps_here")
def test_a_client_gets_what_the_model_gives(
    toys: Path, tmp_path: Path, synthetic_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garments from 784 numbers, a classifier of flowers, two inputs, and a SavedModel: by both runtimes and APIs."""
    monkeypatch.setattr("training.export.trained.dataset.load", lambda _: synthetic_data)
    flat = classifier_of_garments(
        synthetic_data, tmp_path / "flat.keras", (784,), lambda images: images.astype(np.float32)
    )
    iris().save(tmp_path / "iris.keras")
    two_inputs().save(tmp_path / "two.keras")
    (tmp_path / "names.txt").write_text("\n".join(IRIS_NAMES))
    export(tmp_path, "fashion_mnist", tmp_path / "flat.keras", "--input-range", "0..255")
    export(tmp_path, "iris", tmp_path / "iris.keras", "--class-names", tmp_path / "names.txt")
    export(tmp_path, "two", tmp_path / "two.keras")
    export(tmp_path, "half", toys / "half_plus_two" / "1")
    config = tmp_path / "models.config"
    models = "".join(
        f"config {{ name: '{path.name}' base_path: '{path}' model_platform: 'tensorflow' }} "
        for path in sorted((tmp_path / "models").iterdir())
    )
    config.write_text(f"model_config_list {{ {models} }}")

    images = synthetic_data.test_images[:3]
    garments = flat.predict(images.reshape(3, 784).astype(np.float32), verbose=0)
    flowers = iris().predict(FLOWERS, verbose=0)
    size, words = np.ones((2, 4), np.float32), np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    price, kind = two_inputs().predict([size, words], verbose=0)

    def check(url: str) -> None:
        with connect(url) as connection:
            names = [prediction.class_name for prediction in connection.predict(images)]
            assert names == [CLASS_NAMES[row] for row in garments.argmax(axis=1)]
        with connect(url, model=ModelSpec("iris")) as connection:
            answer = connection.infer({"x": FLOWERS})
            np.testing.assert_allclose(answer["probabilities"], flowers, rtol=0, atol=1e-5)
            assert answer["class_names"].tolist() == [IRIS_NAMES[row].encode() for row in flowers.argmax(axis=1)]
        with connect(url, model=ModelSpec("two")) as connection:
            answer = connection.infer({"size": size, "words_in": words})
            np.testing.assert_allclose(answer["price"], price, rtol=0, atol=1e-5)
            np.testing.assert_allclose(answer["kind"], kind, rtol=0, atol=1e-5)
        with connect(url, model=ModelSpec("half")) as connection:
            assert connection.infer({"x": [2.0, 4.0]})["y"].tolist() == [3.0, 4.0]

    for runtime in ("tensorflow", "litert"):
        with running(f"--model_config_file={config}", f"--runtime={runtime}", "--require_manifest") as server:
            for url in (f"grpc://{server.grpc}", f"http://{server.rest}"):
                check(url)
