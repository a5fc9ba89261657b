"""New versions under load: not one failed or mixed answer; broken ones leave the old one serving."""

from __future__ import annotations

import functools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import text_format

from serving.apis import services
from serving.apis.messages import GetModelStatusRequest, ModelSpec, ReloadConfigRequest
from tests.support.asking import call, predict
from tests.support.live import Server, running

RELOADS = 50
X = np.array([1.0, 4.0, 9.0], np.float32)


class Publisher:
    """Puts versions into a base path as an exporter does: written aside, then renamed."""

    def __init__(self, toys: Path, base: Path, name: str = "m") -> None:
        self._toys = toys
        self._base = base
        self.name = name
        self.base_path = base / "served" / name
        self.base_path.mkdir(parents=True)
        self.newest = 0
        self.next()

    def next(self, spoil: Callable[[Path], None] | None = None) -> int:
        """Publishes the next version and gives its number."""
        self.newest += 1
        self.publish(self.newest, spoil)
        return self.newest

    def publish(self, number: int, spoil: Callable[[Path], None] | None = None) -> None:
        """Publishes half_plus_two: bias 2 for odd numbers, 3 for even ones; spoil: what breaks it first."""
        aside = self._base / f"tmp-{self.name}-{number}"
        shutil.copytree(self._toys / "half_plus_two" / ("1" if number % 2 else "2"), aside)
        if spoil is not None:
            spoil(aside)
        aside.rename(self.base_path / str(number))


POLLING = ("--file_system_poll_wait_seconds=0.05", "--max_num_load_retries=0", "--enable_batching")
# A model for each test, all on one server: none depends on what another has published.
RELOADED = "reloaded"
SPOILT = ("truncated", "garbage", "bad_warmup", "bad_self_test")


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def runtime(request: pytest.FixtureRequest) -> str:
    """What runs the models."""
    return str(request.param)


@pytest.fixture(scope="module")
def publishers(
    runtime: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Publisher]:
    """Base paths with version 1, by the model's name."""
    base = tmp_path_factory.mktemp("reload")
    models = request.getfixturevalue("toys" if runtime == "tensorflow" else "lite_toys")
    return {name: Publisher(models, base, name) for name in (RELOADED, *SPOILT)}


@pytest.fixture(scope="module")
def server(
    runtime: str, publishers: dict[str, Publisher], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of those base paths which looks often."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    models = (
        f"config {{ name: '{name}' base_path: '{publisher.base_path}' model_platform: 'tensorflow' }}"
        for name, publisher in publishers.items()
    )
    config.write_text(f"model_config_list {{ {' '.join(models)} }}")
    with running(f"--model_config_file={config}", f"--runtime={runtime}", *POLLING) as live:
        yield live


def status(server: Server, model: str) -> dict[int, dict[str, Any]]:
    """The status of each version of a model, as REST has it."""
    answer = httpx.get(f"http://{server.rest}/v1/models/{model}").json()
    return {int(version["version"]): version for version in answer["model_version_status"]}


def is_available(server: Server, model: str, number: int) -> bool:
    """Whether a version is."""
    return status(server, model).get(number, {}).get("state") == "AVAILABLE"


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Probes until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Load:
    """Clients that ask without pause until told to stop, and keep what was wrong."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.wrong: list[object] = []
        self.count = 0
        self.biases: set[float] = set()
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for ask in (self._grpc, self._rest) * 2]

    def start(self) -> None:
        """Starts the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, ask: Callable[[Any], tuple[list[float], list[float]]]) -> None:
        with (
            grpc.insecure_channel(self._server.grpc) as channel,
            httpx.Client(base_url=f"http://{self._server.rest}") as http,
        ):
            while not self._stop.is_set():
                try:
                    y, bias = ask(channel if ask == self._grpc else http)
                except Exception as error:  # noqa: BLE001 - every failure is counted
                    self.wrong.append(error)
                    continue
                self.count += 1
                self.biases.update(bias)
                if len(set(bias)) != 1 or y != (X / 2 + bias[0]).tolist():
                    self.wrong.append((y, bias))

    @staticmethod
    def _grpc(channel: grpc.Channel) -> tuple[list[float], list[float]]:
        answer = predict(channel, RELOADED, {"x": X})
        return answer["y"].tolist(), answer["bias"].tolist()

    @staticmethod
    def _rest(http: httpx.Client) -> tuple[list[float], list[float]]:
        answer = http.post(f"/v1/models/{RELOADED}:predict", json={"inputs": X.tolist()})
        answer.raise_for_status()
        return answer.json()["outputs"]["y"], answer.json()["outputs"]["bias"]


def test_fifty_reloads_under_load(server: Server, publishers: dict[str, Publisher]) -> None:
    """Both APIs, 50 new versions, each taking over from the one before: every answer whole and right."""
    load, publisher = Load(server), publishers[RELOADED]
    load.start()
    try:
        for _ in range(RELOADS):
            number = publisher.next()
            wait_for(functools.partial(is_available, server, RELOADED, number))
    finally:
        load.stop()
    assert load.wrong == []
    assert load.biases == {2.0, 3.0}
    assert load.count > RELOADS
    wait_for(lambda: [each["state"] for each in status(server, RELOADED).values()].count("AVAILABLE") == 1)
    states = status(server, RELOADED)
    assert states[number]["state"] == "AVAILABLE"
    assert {version["state"] for other, version in states.items() if other < number} == {"END"}


def truncate_weights(path: Path) -> None:
    """Half of the variables, or of all that LiteRT has."""
    files = (path / "variables" / "variables.data-00000-of-00001", path / "model.tflite")
    data = next(file for file in files if file.exists())
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def garbage(path: Path) -> None:
    """No model at all."""
    for file in path.glob("*model.*"):
        file.write_bytes(os.urandom(1000))


def bad_warmup(path: Path) -> None:
    """A warmup file that is no TFRecord."""
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "tf_serving_warmup_requests").write_bytes(b"no records at all")


def bad_self_test(path: Path) -> None:
    """Golden outputs that the model does not give."""
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    arrays = {"serving_default/inputs/x": X, "serving_default/outputs/y": X}
    np.savez(extra / "self_test.npz", **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "spoil", "message"),
    [
        ("truncated", truncate_weights, ""),
        ("garbage", garbage, ""),
        ("bad_warmup", bad_warmup, "tf_serving_warmup_requests"),
        ("bad_self_test", bad_self_test, "output y of serving_default differs by"),
    ],
    ids=SPOILT,
)
def test_a_broken_version_leaves_the_old_one_serving(
    server: Server, publishers: dict[str, Publisher], model: str, spoil: Callable[[Path], None], message: str
) -> None:
    """The status has its error; once its files are right it takes over."""
    publisher = publishers[model]
    new = publisher.next(spoil)
    wait_for(lambda: new in status(server, model) and status(server, model)[new]["status"]["error_code"] != "OK")

    states = status(server, model)
    assert (states[new]["state"], states[1]["state"]) == ("END", "AVAILABLE")
    assert message in states[new]["status"]["error_message"]
    with grpc.insecure_channel(server.grpc) as channel:
        assert predict(channel, model, {"x": X})["bias"][0] == 2.0
        shutil.rmtree(publisher.base_path / str(new))
        publisher.publish(new)
        wait_for(lambda: status(server, model)[new]["state"] == "AVAILABLE")
        assert predict(channel, model, {"x": X})["bias"][0] == 3.0


def test_the_reload_rpc(toys: Path, tmp_path: Path) -> None:
    """It replaces the whole list: another model in, this one out; a label needs an AVAILABLE version."""
    publisher = Publisher(toys, tmp_path)
    flags = ("--model_name=m", f"--model_base_path={publisher.base_path}", *POLLING)
    with running(*flags) as server, grpc.insecure_channel(server.grpc) as channel:

        def reload(models: str) -> None:
            text = f"config {{ model_config_list {{ {models} }} }}"
            call(channel, services.HANDLE_RELOAD_CONFIG_REQUEST, text_format.Parse(text, ReloadConfigRequest()))

        def code(models: str) -> tuple[str, str]:
            with pytest.raises(grpc.RpcError) as raised:
                reload(models)
            return raised.value.code().name, raised.value.details() or ""

        m = f"name: 'm' base_path: '{publisher.base_path}'"
        # A reload may name base paths beside the configured one.
        shutil.copytree(toys / "half_plus_two", publisher.base_path.parent / "other")
        path = publisher.base_path.parent
        other = f"config {{ name: 'other' base_path: '{path}/other' model_platform: 'tensorflow' }}"
        label = "version_labels { key: 'stable' value: 7000 }"
        platform = "model_platform: 'tensorflow'"

        assert code(f"config {{ {m} {platform} {label} }}") == (
            "FAILED_PRECONDITION",
            "Request to assign label to version 7000 of model m, which is not currently available for inference",
        )
        assert code(f"config {{ {m} {platform} }} config {{ {m} {platform} }}") == (
            "INVALID_ARGUMENT",
            "Illegal to list model m multiple times in config list",
        )
        assert code(f"config {{ {m} model_platform: 'jax' }}")[0] == "INVALID_ARGUMENT"
        assert code(f"config {{ {m} }}")[1].startswith("Illegal setting neither ModelServerConfig::model_type")
        assert code(f"{other} config {{ name: 'ghost' base_path: '{path}/none' {platform} }}") == (
            "NOT_FOUND",
            "No versions of model ghost can be read under its base path: the server's log says why",
        )

        reload(f"{other} config {{ {m} {platform} {label.replace('7000', '1')} }}")
        assert predict(channel, "other", {"x": X})["bias"][0] == 3.0
        answer = httpx.post(f"http://{server.rest}/v1/models/m/labels/stable:predict", json={"instances": [1.0]})
        assert answer.json()["predictions"][0]["bias"] == 2.0

        reload(other)
        with pytest.raises(grpc.RpcError) as raised:
            predict(channel, "m", {"x": X})
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        states = call(channel, services.GET_MODEL_STATUS, GetModelStatusRequest(model_spec=ModelSpec(name="other")))
        assert [version.version for version in states.model_version_status] == [2]


def test_the_configuration_file_is_polled(toys: Path, tmp_path: Path) -> None:
    """A changed file is taken over; one that does not parse changes nothing and is told."""
    config = tmp_path / "models.config"

    def write(name: str) -> None:
        config.write_text(
            f"model_config_list {{ config {{ name: '{name}' base_path: '{toys}/half_plus_two' "
            "model_platform: 'tensorflow' } }"
        )

    def is_served(name: str) -> bool:
        return httpx.get(f"http://{polling.rest}/v1/models/{name}").status_code == 200

    write("first")
    with running(f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=0.1") as polling:
        assert is_served("first")
        config.write_text("improperly formatted file")
        wait_for(lambda: "Error parsing text-format tensorflow.serving.ModelServerConfig" in polling.log.read_text())
        assert is_served("first")
        write("second")
        wait_for(lambda: is_served("second"))


def test_a_base_path_that_comes_right_later(toys: Path, tmp_path: Path) -> None:
    """503 and UNAVAILABLE with the reason meanwhile; then it is served, and the probes turn ready."""
    base = tmp_path / "later"
    flags = ("--model_name=m", f"--model_base_path={base}", "--file_system_poll_wait_seconds=0.05")
    with running(*flags) as server, grpc.insecure_channel(server.grpc) as channel:
        url = f"http://{server.rest}/v1/models/m:predict"
        answer = httpx.post(url, json={"instances": [1.0]})
        assert answer.status_code == 503
        text = "Servable not found for request: Latest(m): No versions of model m can be read under its base path: "
        assert answer.json()["error"].startswith(text)
        assert f"m cannot be served yet: Could not find base path {base}" in server.log.read_text()
        with pytest.raises(grpc.RpcError) as raised:
            predict(channel, "m", {"x": X})
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        ready = httpx.get(f"http://{server.rest}/readyz")
        assert (ready.status_code, list(ready.json()["errors"])) == (503, ["m"])

        shutil.copytree(toys / "half_plus_two", base)

        wait_for(lambda: httpx.get(f"http://{server.rest}/readyz").status_code == 200)
        assert httpx.post(url, json={"instances": [1.0]}).status_code == 200
