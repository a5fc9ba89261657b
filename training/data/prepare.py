"""The only module that uses tensorflow_datasets: it prepares the data set aside, renames it, and decodes it.

https://www.tensorflow.org/datasets/api_docs/python/tfds/download/DownloadConfig
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from fashion_common.data_files import DATA_DIR_VARIABLE, FILES, NAME, VERSION, default_directory
from training.data.arrays import Arrays
from training.data.sources import URL, check_digests
from training.errors import TrainingUsageError

_REACH_SECONDS = 10


def registered_digests() -> dict[str, str]:
    """The SHA-256 digest that TFDS has registered for each of the four files, by file name."""
    checksums = {info.filename: info.checksum for info in tfds.builder_cls(NAME).url_infos.values()}
    return {name: checksums[name] for name in FILES}


def prepare(files: Path | None, prepared_dir: Path) -> None:
    """Writes `<prepared_dir>/fashion_mnist/<version>/`, whole or not at all; downloads only where `files` is None.

    Raises TrainingUsageError for a wrong checksum or a failed download, OSError where `prepared_dir` cannot be written.
    """
    if files:
        check_digests(files, registered_digests())
    temporary = Path(tempfile.mkdtemp(prefix=".preparing-", dir=prepared_dir))
    try:
        try:
            _download_and_prepare(temporary, files)
        except (requests.RequestException, urllib.error.URLError, TimeoutError, DownloadError) as error:
            raise _cannot_download(str(error)) from error
        except NonMatchingChecksumError as error:
            raise _cannot_download(f"a downloaded file has a wrong checksum: {str(error).splitlines()[0]}") from error
        _publish(temporary / NAME / VERSION, prepared_dir / NAME / VERSION)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def decode(prepared_dir: Path) -> Arrays:
    """Images, uint8 [N,28,28], and labels, int64 [N], of both splits, in the fixed order of the prepared files."""
    builder = tfds.builder(f"{NAME}:{VERSION}", data_dir=prepared_dir)
    arrays: Arrays = {}
    for split in ("train", "test"):
        columns = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, shuffle_files=False))
        arrays[f"{split}_images"] = np.ascontiguousarray(columns["image"][..., 0])
        arrays[f"{split}_labels"] = columns["label"]
    return arrays


def _download_and_prepare(directory: Path, files: Path | None) -> None:
    if not files:
        # TFDS itself tries again for minutes before it says that there is no network.
        with urllib.request.urlopen(urllib.request.Request(URL + FILES[-1], method="HEAD"), timeout=_REACH_SECONDS):  # noqa: S310 - a constant http address
            pass
    config = tfds.download.DownloadConfig(
        manual_dir=files,
        try_download_gcs=False,  # a ready-made copy would not be checked against the registered checksums
        force_checksums_validation=True,
    )
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints its own progress there
        tfds.builder(f"{NAME}:{VERSION}", data_dir=directory).download_and_prepare(download_config=config)


def _publish(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same files
            raise


def _cannot_download(reason: str) -> TrainingUsageError:
    return TrainingUsageError(
        f"Fashion-MNIST is not at hand and cannot be downloaded ({reason}): fetch {', '.join(FILES)} from {URL} "
        f"into {default_directory()}, or name their directory with --data-dir or ${DATA_DIR_VARIABLE}"
    )
