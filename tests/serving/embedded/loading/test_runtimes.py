"""Which runtime serves a version; TensorFlow is in no process that LiteRT serves in."""

from __future__ import annotations

import gc
import logging
import re
import shutil
from functools import partial
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from fashion_common.installation import install_command
from serving.embedded import event_log
from serving.embedded.loading import runtimes
from serving.embedded.loading.litert.lite_model import LiteModel
from serving.embedded.loading.runtimes import RuntimeOptions, choose, runtime_load
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServerConfigError, ServingError
from tests.support.asking import predict
from tests.support.live import Server, running, wait_until

X = np.array([1.0, 4.0], np.float32)
BOTH = {"tensorflow", "litert"}
NOT_PREFERRED = "it is installed, and --prefer_tflite_model is not given"
FILES = {"both": ("saved_model.pb", "model.tflite"), "lite": ("model.tflite",), "tensorflow": ("saved_model.pb",)}


@pytest.mark.parametrize(
    ("options", "installed", "files", "expected"),
    [
        (RuntimeOptions(), BOTH, "both", ("tensorflow", NOT_PREFERRED)),
        (RuntimeOptions(), BOTH, "tensorflow", ("tensorflow", "the version has no model.tflite")),
        (RuntimeOptions(), BOTH, "lite", ("litert", "the version has no saved_model.pb")),
        (RuntimeOptions(), {"litert"}, "both", ("litert", "TensorFlow is not installed")),
        (RuntimeOptions(), {"litert"}, "tensorflow", ("litert", "TensorFlow is not installed")),
        (
            RuntimeOptions(),
            {"tensorflow"},
            "lite",
            ("tensorflow", NOT_PREFERRED),
        ),
        (RuntimeOptions(prefer_lite=True), BOTH, "both", ("litert", "--prefer_tflite_model")),
        (RuntimeOptions(prefer_lite=True), BOTH, "tensorflow", ("tensorflow", "the version has no model.tflite")),
        (RuntimeOptions("tensorflow"), BOTH, "lite", ("tensorflow", "--runtime=tensorflow")),
        (RuntimeOptions("litert"), BOTH, "tensorflow", ("litert", "--runtime=litert")),
    ],
)
def test_the_choice(
    tmp_path: Path, options: RuntimeOptions, installed: set[str], files: str, expected: tuple[str, str]
) -> None:
    """What is forced or preferred, then what is installed; with the reason that the log has."""
    for name in FILES[files]:
        (tmp_path / name).touch()
    assert choose(options, installed, VersionDirectory(tmp_path)) == expected


@pytest.mark.parametrize(
    ("options", "installed", "text"),
    [
        (RuntimeOptions(), [], "litert is not installed: {}"),
        (RuntimeOptions("tensorflow"), ["litert"], "tensorflow is not installed: {}"),
        (RuntimeOptions("litert"), ["tensorflow"], "litert is not installed: {}"),
        (RuntimeOptions(prefer_lite=True), ["tensorflow"], "litert is not installed: {}"),
    ],
)
def test_a_runtime_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, options: RuntimeOptions, installed: list[str], text: str
) -> None:
    """It ends the start, with what installs it."""
    monkeypatch.setattr(runtimes, "installed_runtimes", lambda: installed)
    with pytest.raises(ServerConfigError) as raised:
        runtime_load(options)
    extra = "embedded" if text.startswith("tensorflow") else "light"
    assert str(raised.value) == text.format(install_command(extra))


def test_a_version_is_loaded_as_the_options_say(
    toys: Path, lite_toys: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the runtime that is chosen for it, which the log says; the runtime takes what the flags say of it."""
    caplog.set_level(logging.INFO)
    frozen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append("imported"))
    load = runtime_load(RuntimeOptions(prefer_lite=True, pools=2, interpreters_per_pool=3, tags=("serve",)))
    lite = load(VersionDirectory(lite_toys / "half_plus_two" / "1"))
    assert isinstance(lite, LiteModel)
    assert (lite._interpreters._kept, lite._interpreters._parts) == (6, 3)
    other = load(VersionDirectory(toys / "half_plus_two" / "1"))
    assert (lite.runtime, other.runtime) == ("LiteRT", "TF1")
    assert frozen == ["imported"] * 2
    assert [record.getMessage() for record in caplog.records if record.name == event_log.__name__] == [
        f"{lite_toys}/half_plus_two/1 is served by litert: --prefer_tflite_model",
        f"{toys}/half_plus_two/1 is served by tensorflow: the version has no model.tflite",
    ]
    for each in (lite, other):
        each.close()
    with pytest.raises(ServingError, match="MetaGraphDef"):
        runtime_load(RuntimeOptions("tensorflow", tags=("other",)))(VersionDirectory(toys / "half_plus_two" / "1"))


def memory_maps(server: Server) -> str:
    """The libraries in a server's process, among others."""
    return Path(f"/proc/{server.process.pid}/maps").read_text()


def answer(server: Server, **spec: int) -> list[float]:
    """What m gives for X."""
    with grpc.insecure_channel(server.grpc) as channel:
        y: list[float] = predict(channel, "m", {"x": X}, **spec)["y"].tolist()
    return y


def flags(base: Path) -> tuple[str, ...]:
    """Those of every server here."""
    return (
        "--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05", "--metrics_port=0",
        "--max_num_load_retries=0",
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("flag", ["--runtime=litert", "--prefer_tflite_model"])
def test_tensorflow_is_not_loaded_where_litert_serves(toys: Path, lite_toys: Path, tmp_path: Path, flag: str) -> None:
    """A version with both models is served by LiteRT; the next one, by the same rule, without a moment in between."""
    base = tmp_path / "m"
    shutil.copytree(toys / "half_plus_two" / "1", base / "1")
    shutil.copy(lite_toys / "half_plus_two" / "1" / "model.tflite", base / "1")
    with running(*flags(base), flag) as server:
        assert answer(server) == [2.5, 4.0]
        assert f"{base}/1 is served by litert: {flag}\n" in server.log.read_text()
        metadata = httpx.get(f"http://{server.rest}/v1/models/m/metadata").json()["metadata"]["signature_def"]
        assert metadata["signature_def"]["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"

        aside = tmp_path / "2"
        shutil.copytree(lite_toys / "half_plus_two" / "2", aside)
        aside.rename(base / "2")
        wait_until(partial(serves, server, 2))
        assert answer(server) == [3.5, 5.0]
        assert "tensorflow" not in memory_maps(server)
        metrics = re.search(r"Exporting metrics at:(\S+) ", server.log.read_text())
        assert metrics
        text = httpx.get(f"http://{metrics[1]}/monitoring/prometheus/metrics").text
        assert 'runtime_latency_count{API="Predict",model_name="m",runtime="LiteRT"} 2.0' in text


def serves(server: Server, version: int) -> bool:
    """Whether a version of m is AVAILABLE and the others are not."""
    versions = httpx.get(f"http://{server.rest}/v1/models/m").json()["model_version_status"]
    return [each["version"] for each in versions if each["state"] == "AVAILABLE"] == [str(version)]


def test_broken_versions(lite_toys: Path, tmp_path: Path) -> None:
    """Each fails with a reason, and the old version serves on."""
    base = tmp_path / "m"
    shutil.copytree(lite_toys / "half_plus_two" / "1", base / "1")
    good = (base / "1" / "model.tflite").read_bytes()
    broken = {
        2: (good[:-1], "model.tflite cannot be loaded: it is empty, cut or no LiteRT model: copy the version again"),
        3: (b"", "model.tflite cannot be loaded: it is empty, cut or no LiteRT model: copy the version again"),
        4: ((lite_toys / "flex" / "1" / "model.tflite").read_bytes(), "LiteRT has no operation FlexRoll: convert"),
    }
    with running(*flags(base), "--runtime=litert") as server:
        for number, (content, text) in broken.items():
            aside = tmp_path / str(number)
            aside.mkdir()
            (aside / "model.tflite").write_bytes(content)
            aside.rename(base / str(number))
            wait_until(partial(failed, server, number, text))
            assert answer(server) == [2.5, 4.0]


def failed(server: Server, version: int, text: str) -> bool:
    """Whether a version has failed for this reason."""
    versions = httpx.get(f"http://{server.rest}/v1/models/m").json()["model_version_status"]
    states = {each["version"]: each for each in versions}
    return str(version) in states and text in states[str(version)]["status"]["error_message"]


def test_both_runtimes_in_one_server(toys: Path, lite_toys: Path, tmp_path: Path) -> None:
    """A version without model.tflite falls back to TensorFlow; one with nothing else needs no flag."""
    base = tmp_path / "m"
    shutil.copytree(toys / "half_plus_two" / "1", base / "1")
    shutil.copytree(lite_toys / "half_plus_two" / "2", base / "2")
    config = tmp_path / "models.config"
    config.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{base}' model_platform: 'tensorflow' "
        "model_version_policy { all {} } } }"
    )
    with running(f"--model_config_file={config}", "--prefer_tflite_model") as server:
        assert answer(server, version=1) == [2.5, 4.0]
        assert answer(server, version=2) == [3.5, 5.0]
        log = server.log.read_text()
        assert f"{base}/1 is served by tensorflow: the version has no model.tflite\n" in log
        assert f"{base}/2 is served by litert: --prefer_tflite_model\n" in log
