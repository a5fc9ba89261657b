"""A version in this process: what it answers, and what it must have."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest

from fashion_common.errors import BasePathError
from scoring import ScoringUsageError
from scoring.models import DirectoryModel, Source
from tests.scoring.conftest import images
from tests.support.live import KITCHEN


def test_a_version_answers_here(scored_model: Path, tmp_path: Path) -> None:
    """On either runtime, the newest of a model base path; the garbage collection of this program is as it was."""
    base = tmp_path / "fashion_mnist"
    shutil.copytree(scored_model, base / "8")
    (base / "8/model.tflite").unlink()
    shutil.copytree(scored_model, base / "7")
    for directory, threads in ((scored_model, 1), (base, 2)):
        model = Source(str(directory), threads=threads).open()
        assert gc.get_freeze_count() == 0
        outputs = model.run(images(12))
        assert outputs.class_ids.tolist() == [number % 10 for number in range(12)]
        assert (outputs.probabilities.shape, outputs.probabilities.dtype.name) == ((12, 10), "float32")
        np.testing.assert_allclose(outputs.probabilities.max(axis=1), 0.91, rtol=1e-5)
        model.close()


def test_a_version_without_classes_cannot_score() -> None:
    """It needs a signature that gives them with their probabilities."""
    with pytest.raises(ScoringUsageError) as error:
        DirectoryModel(KITCHEN / "1", 1)
    assert str(error.value) == (f"{KITCHEN}/1 has no signature serving_default with probabilities and class_ids")


def test_a_directory_without_a_model_is_none(tmp_path: Path) -> None:
    """It is named, as where a server would look for versions."""
    (tmp_path / "3").mkdir()
    for path in (tmp_path / "3", tmp_path / "none"):
        with pytest.raises(BasePathError, match=str(path)):
            Source(str(path)).identity()
