"""The extra [light] in a new environment: `fashion serve` serves an export, without TensorFlow."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.environments import Environment, install
from tests.support.road import Road

MOST_BYTES = 175 * 2**20


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment."""
    return install(tmp_path_factory.mktemp("light"), "light")


def test_it_is_light(light: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the client installs, LiteRT's 58 MB, and what the ports need."""
    with capsys.disabled():
        print(f"\n[light] installs {light.size / 2**20:.0f} MiB without bytecode")
    assert light.size < MOST_BYTES
    assert "ModuleNotFoundError" in light.run("python", "-c", "import tensorflow", cwd=tmp_path).stderr
    version = light.run("python", "-m", "serving.embedded", "--version", cwd=tmp_path).stdout
    assert version.splitlines()[1].startswith("LiteRT Library: ")
    forced = light.run(
        "python", "-m", "serving.embedded", "--runtime=tensorflow", "--model_base_path=/none", cwd=tmp_path
    )
    assert forced.returncode == 2
    expected = "Error: tensorflow is not installed: pip install 'fashion-mnist-serving[embedded]'\n"
    assert forced.stderr == expected


def test_it_serves_an_export(
    light: Environment, road: Road, pictures: dict[Path, npt.NDArray[np.uint8]], tmp_path: Path
) -> None:
    """Warmup and self-test pass, and the classes are those that the server on TensorFlow gives."""
    shutil.copytree(road.directory / "models", tmp_path / "models")
    serve = [str(light.programs / "fashion"), "serve", "--backend=embedded", "--port=0", "--rest-port=0"]
    with subprocess.Popen(
        serve, cwd=tmp_path, env=light.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(6)]
        servers = [line.split()[1] for line in lines if line.startswith(("gRPC", "REST"))]
        assert len(servers) == 2, process.stderr.read()
        images = list(map(str, pictures))
        expected = light.run("fashion", "predict", "--server", road.servers["grpc"], *images, cwd=tmp_path)
        answers = [
            light.run("fashion", "predict", "--server", server.partition("/v1")[0], *images, cwd=tmp_path)
            for server in servers
        ]
        doctor = light.run("fashion", "doctor", "--server", servers[0], cwd=tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert expected.returncode == 0, expected.stderr
    assert [answer.stdout for answer in answers] == [expected.stdout] * 2
    assert doctor.returncode == 0, doctor.stdout
