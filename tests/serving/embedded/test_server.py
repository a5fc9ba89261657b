"""The server in this process: its start, what it tells of itself, and what its end leaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from fashion_common.files import write_whole
from fashion_common.layout import MANIFEST_FILE
from serving.apis import messages, services
from serving.embedded.flags import Flags
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.storage import VersionDirectory
from serving.embedded.server import Addresses, ModelServer
from serving.embedded.workers.configuration import Record, record_path
from serving.errors import ServerConfigError
from tests.support.asking import call, predict
from tests.support.fakes import FakeServable

Array = npt.NDArray[Any]
X = np.array([1])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model base path with version 1."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    return tmp_path


def server_of(base: Path, servable: FakeServable | None = None, **flags: Any) -> ModelServer:
    """A server of such a model, which ends within a second; without gRPC unless it is asked for."""
    made = servable or FakeServable(1)
    settings = {
        "port": -1, "model_name": "m", "model_base_path": str(base), "shutdown_grace_seconds": 1.0,
        "file_system_poll_wait_seconds": 0.05, **flags,
    }  # fmt: skip
    return ModelServer(Flags(**settings), lambda name, number, _: LoadedModel(name, number, made))


def test_every_model_is_freed_when_the_server_stops(base: Path) -> None:
    """Once, and also when it is told to stop again."""
    servable = FakeServable(1)
    server = server_of(base, servable, port=0)
    assert server.start().grpc
    assert not servable.closed.is_set()
    for _ in range(2):
        server.stop()
        assert servable.closes == 1


def test_a_server_listens_where_it_is_told_to(base: Path) -> None:
    """Each port by its flag; what is off has no address. It waits until it is told to stop."""
    server = server_of(base)
    assert server.start() == Addresses(None, None, None)
    assert server.wait(0) is False
    server.stop()
    assert server.wait(0) is True
    server = server_of(base, rest_api_port=0, metrics_port=0)
    addresses = server.start()
    assert addresses.grpc is None
    assert addresses.rest
    assert addresses.metrics
    assert addresses.rest.rpartition(":")[0] == addresses.metrics.rpartition(":")[0] == "127.0.0.1"
    assert addresses.rest != addresses.metrics
    server.stop()
    server = server_of(base, rest_api_port=-1)
    assert server.start() == Addresses(None, None, None)
    server.stop()


def test_versions_are_loaded_and_unloaded_in_as_many_threads_as_the_flags_say(tmp_path: Path) -> None:
    """Here each waits for the other two."""
    together = {"load": threading.Barrier(3), "unload": threading.Barrier(3)}

    class Waiting(FakeServable):
        """Does not end alone."""

        def close(self) -> None:
            """Waits, then counts it."""
            together["unload"].wait(10)
            super().close()

    made: list[Waiting] = []

    def load(name: str, number: int, _: VersionDirectory) -> LoadedModel:
        together["load"].wait(10)
        made.append(Waiting(number))
        return LoadedModel(name, number, made[-1])

    for number in "123":
        (tmp_path / "m" / number).mkdir(parents=True)
        (tmp_path / "m" / number / "saved_model.pb").touch()
    config = tmp_path / "models.config"
    config.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path}/m' model_platform: 'tensorflow' "
        "model_version_policy { all {} } } }"
    )
    flags = Flags(port=-1, model_config_file=str(config), num_load_threads=3, num_unload_threads=3)
    server = ModelServer(flags, load)
    server.start()
    assert len(made) == 3
    server.stop()
    assert [servable.closes for servable in made] == [1, 1, 1]


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, grpc.StatusCode.FAILED_PRECONDITION)])
def test_a_label_may_come_before_its_version_where_the_flag_says_so(
    base: Path, code: grpc.StatusCode | int, *, allowed: bool
) -> None:
    """--allow_version_labels_for_unavailable_models, in a reload."""
    server = server_of(base, port=0, allow_version_labels_for_unavailable_models=allowed)
    address = server.start().grpc
    assert address
    request = messages.ReloadConfigRequest()
    model = request.config.model_config_list.config.add(name="m", base_path=str(base), model_platform="tensorflow")
    model.version_labels["canary"] = 2
    with grpc.insecure_channel(address) as channel:
        try:
            answered: grpc.StatusCode | int = call(
                channel, services.HANDLE_RELOAD_CONFIG_REQUEST, request
            ).status.error_code
        except grpc.RpcError as error:
            answered = error.code()
    assert answered == code
    server.stop()


def test_each_of_several_workers_speaks_for_itself_to_the_others(base: Path, tmp_path: Path) -> None:
    """The first one, too; a worker that does not run is not waited for."""
    directory = tmp_path / "workers"
    directory.mkdir()
    config = messages.ModelServerConfig()
    config.model_config_list.config.add(name="m", base_path=str(base), model_platform="tensorflow")
    write_whole(record_path(directory), Record(config).to_bytes())
    server = server_of(base, port=0, worker_directory=str(directory), worker_index=0, workers=2)
    server.start()
    request = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name="m"))
    with grpc.insecure_channel(f"unix:{directory}/worker-0.sock") as channel:
        answer = call(channel, services.GET_MODEL_STATUS, request)
    assert [(each.version, each.state) for each in answer.model_version_status] == [(1, 30)]
    server.stop()


class Wide(FakeServable):
    """Answers a number with a row of so many zeros."""

    def __init__(self) -> None:
        super().__init__(1)
        signature = text_format.Parse(
            """
            inputs { key: "x" value { name: "x:0" dtype: DT_INT64 tensor_shape { dim { size: -1 } } } }
            outputs { key: "y" value { name: "y:0" dtype: DT_FLOAT } }
            method_name: "tensorflow/serving/predict"
            """,
            messages.SignatureDef(),
        )
        self.signatures = {"serving_default": signature}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The row."""
        return [np.zeros((1, int(feeds["x:0"][0])), np.float32) for _ in fetches]


@pytest.mark.parametrize("api", ["gRPC", "REST"])
def test_a_large_answer_is_expected_again(base: Path, api: str) -> None:
    """As many bytes, for each that was asked, as the last one took, from the run on; until one is small again."""
    loaded = LoadedModel("m", 1, Wide())
    flags = Flags(port=0, rest_api_port=0, model_name="m", model_base_path=str(base), shutdown_grace_seconds=1.0)
    server = ModelServer(flags, lambda *_: loaded)
    addresses = server.start()

    def ask(count: int) -> list[float]:
        if api == "REST":
            url = f"http://{addresses.rest}/v1/models/m:predict"
            assert httpx.post(url, json={"instances": [count]}, timeout=30).status_code == 200
        else:
            with grpc.insecure_channel(addresses.grpc or "") as channel:
                predict(channel, "m", {"x": X * count})
        return list(loaded.answer_bytes.values())

    assert ask(1) == []
    [ratio] = ask(200_000)
    # The answer in pieces and joined, by what a request takes in memory; the array, and at most 20 characters for each
    # of its numbers, by the input's eight bytes.
    assert ratio == pytest.approx(2 * 800_000 / 570 if api == "gRPC" else (800_000 + 4_000_000) / 8, rel=0.1)
    # gRPC's header of the deadline is a few bytes longer or shorter each time.
    assert ask(200_000) == pytest.approx([ratio], rel=0.02)
    assert ask(1) == []
    server.stop()


def test_a_configuration_that_cannot_be_ends_the_start(tmp_path: Path) -> None:
    """In TF Serving's words."""
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { name: 'm' base_path: '/m' } }")
    server = server_of(tmp_path, model_config_file=str(config))
    with pytest.raises(ServerConfigError) as raised:
        server.start()
    assert str(raised.value) == (
        "Failed to start server. Error: INVALID_ARGUMENT: Illegal setting neither ModelServerConfig::model_type "
        "(deprecated) nor ModelServerConfig::model_platform."
    )
    server.stop()


def test_a_start_that_is_to_end_opens_nothing(base: Path) -> None:
    """However long a model still loads."""
    gate, stopping = threading.Event(), threading.Event()

    def load(name: str, number: int, _: VersionDirectory) -> LoadedModel:
        stopping.set()
        assert gate.wait(30)
        return LoadedModel(name, number, FakeServable(number))

    flags = Flags(
        port=0,
        model_name="m",
        model_base_path=str(base),
        shutdown_grace_seconds=0.1,
        file_system_poll_wait_seconds=0.05,
    )
    server = ModelServer(flags, load, stopping)
    assert server.start() == Addresses(None, None, None)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 10
    gate.set()


def test_work_for_the_event_loop(base: Path) -> None:
    """Is done at once as long as there is none, and then in its thread."""
    names: list[str] = []
    done = threading.Event()

    def work() -> None:
        names.append(threading.current_thread().name)
        done.set()

    server = server_of(base)
    server.call_soon(work)
    assert names == ["MainThread"]
    server.start()
    done.clear()
    server.call_soon(work)
    assert done.wait(10)
    assert names == ["MainThread", "event-loop"]
    server.stop()


def test_what_a_version_answered_to_the_test_set_is_among_the_metrics(base: Path) -> None:
    """Where its manifest has it; without metrics nobody looks."""
    distribution = {"classes": [3, 0], "confidence": [0] * 9 + [3]}
    (base / "1" / MANIFEST_FILE).parent.mkdir()
    (base / "1" / MANIFEST_FILE).write_text(json.dumps({"files": {}, "metrics": {"test_distribution": distribution}}))
    server = server_of(base, metrics_port=0)
    server.start()
    assert server._metrics
    text = server._metrics.exposition().decode()
    assert (
        ':fashion:distribution:prediction_count{class_id="0",model_name="m",source="test_set",version="1"} 3.0' in text
    )
    server.stop()
    server = server_of(base)
    server.start()
    assert server._metrics is None
    server.stop()


@pytest.mark.parametrize(
    ("flags", "compares"),
    [
        ({}, False),
        ({"metrics_port": 0}, False),
        ({"shadow_label": "canary"}, False),
        ({"shadow_label": "canary", "metrics_port": 0}, True),
    ],
)
def test_a_shadow_needs_a_label_and_metrics(base: Path, flags: dict[str, Any], compares: bool) -> None:
    """Which have its results."""
    server = server_of(base, **flags)
    assert (server._shadow is not None) is compares
    assert len(server._interceptor.samplers) == 1 + compares
    server.start()
    server.stop()
