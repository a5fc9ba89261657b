"""Reloads by callers wait for each other, within bounds, and hold up nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving.apis.messages import (
    DT_FLOAT,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelServerConfig,
    ModelSpec,
    SignatureDef,
    SignatureDefMap,
)
from serving.apis.runtimes import HEADER, header_value
from serving.embedded.api import Api
from serving.embedded.inference.model import LoadedModel
from serving.embedded.models.manager import Manager
from serving.embedded.models.source import Aspired
from serving.errors import InvalidArgument, NotFound, ResourceExhausted
from tests.support.fakes import FakeLoader, aspire


class SlowCore:
    """Reloads one at a time, each once the gate is open; `reloaded` has what was."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.reloaded: list[str] = []
        self.manager = Manager(FakeLoader())

    def reload(self, config: ModelServerConfig) -> None:
        """One reload."""
        self.begun.set()
        assert self.gate.wait(10)
        self.reloaded.append(config.model_config_list.config[0].name)

    def errors(self) -> dict[str, Exception]:
        """None."""
        return {}


def config(name: str) -> ModelServerConfig:
    """A configuration of one model."""
    configuration = ModelServerConfig()
    configuration.model_config_list.config.add(name=name)
    return configuration


def test_reloads_wait_for_each_other() -> None:
    """In their order, eight at most; one that its client gives up while it waits is not done."""
    core = SlowCore()
    api = Api(cast("Any", core), cast("Any", SimpleNamespace()))

    async def ask() -> list[object]:
        tasks = [asyncio.create_task(api.reload(config(str(number)))) for number in range(9)]
        await asyncio.to_thread(core.begun.wait, 10)
        tasks[3].cancel()
        await asyncio.sleep(0)
        await asyncio.to_thread(str)  # the event loop's own threads are free
        core.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await api.reload(config("later"))
        return [type(answer) for answer in answers]

    answers = asyncio.run(ask())

    assert answers == [type(None)] * 3 + [asyncio.CancelledError] + [type(None)] * 4 + [ResourceExhausted]
    assert core.reloaded == ["0", "1", "2", "4", "5", "6", "7", "later"]


class Serving:
    """Two models: m with the versions 1 and 2, of which the second is AVAILABLE; n, which cannot be loaded."""

    def __init__(self, base: Path) -> None:
        loader = FakeLoader()
        loader.broken = {1}
        self.manager: Any = Manager(self._load(loader), max_num_load_retries=0)
        for name, versions in (("m", (1, 2)), ("n", (1,))):
            (base / name).mkdir()
            aspire(self.manager, base / name, *versions, name=name)
        assert self.manager.wait_until_settled(["m", "n"], 10)
        self.model_names = ["n", "m"]

    def _load(self, loader: FakeLoader) -> Any:
        def load(name: str, number: int, directory: Any) -> LoadedModel:
            servable = loader(name, number, directory)
            definition = SignatureDef(method_name="tensorflow/serving/predict")
            definition.inputs["x"].name, definition.inputs["x"].dtype = "x:0", DT_FLOAT
            servable.signatures = {"serving_default": definition}
            servable.runtime = "LiteRT" if name == "m" else "other"
            return LoadedModel(name, number, servable)

        return load

    def use(self, spec: ModelSpec) -> Any:
        """The version of a request."""
        return self.manager.use(spec.name)

    def errors(self) -> dict[str, Any]:
        """Why n is not served."""
        return {"n": self.manager.error("n")}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """Of these models."""
    core: Any = Serving(tmp_path)
    yield Api(core, cast("Any", SimpleNamespace()))
    core.manager.stop()


def test_the_status_of_a_model(api: Api) -> None:
    """Of all versions newest first, or of one; a label says nothing."""
    request = GetModelStatusRequest(model_spec=ModelSpec(name="m", version_label="none"))
    every = asyncio.run(api.status(request)).model_version_status
    assert [(status.version, status.state) for status in every] == [(2, 30), (1, 50)]
    request.model_spec.version.value = 1
    (one,) = asyncio.run(api.status(request)).model_version_status
    assert (one.version, one.status.error_message) == (1, "version 1 is broken")
    request.model_spec.version.value = 9
    for bad, error, message in (
        (request, NotFound, "Could not find version 9 of model m"),
        (GetModelStatusRequest(), InvalidArgument, "Missing ModelSpec"),
        (
            GetModelStatusRequest(model_spec=ModelSpec(name="none")), NotFound,
            "Could not find any versions of model none",
        ),
    ):  # fmt: skip
        with pytest.raises(error) as raised:
            asyncio.run(api.status(bad))
        assert str(raised.value) == message


def test_a_model_without_any_version_says_why(api: Api) -> None:
    """As its base path does."""
    api.core.manager.set_aspired("empty", Aspired(None, NotFound("no base path")))
    errors: Any = lambda: {"empty": NotFound("no base path")}  # noqa: E731
    api.core.errors = errors  # type: ignore[method-assign]
    with pytest.raises(NotFound) as raised:
        asyncio.run(api.status(GetModelStatusRequest(model_spec=ModelSpec(name="empty"))))
    assert str(raised.value) == "Could not find any versions of model empty: no base path"


def test_the_metadata_of_a_model(api: Api) -> None:
    """Its signatures, by the one field that there is, of the version that would answer."""
    request = GetModelMetadataRequest(model_spec=ModelSpec(name="m"), metadata_field=["signature_def"])
    response = api.metadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 2)
    assert list(response.metadata) == ["signature_def"]
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"
    version = api.core.manager.use("m")
    assert version._users == 1
    version.release()
    for bad, message in (
        (GetModelMetadataRequest(metadata_field=["signature_def"]), "Missing ModelSpec"),
        (
            GetModelMetadataRequest(model_spec=ModelSpec(name="m")),
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            GetModelMetadataRequest(model_spec=ModelSpec(name="m"), metadata_field=["signature_def", "x"]),
            "Metadata field x is not supported",
        ),
    ):
        with pytest.raises(InvalidArgument) as raised:
            api.metadata(bad)
        assert str(raised.value) == message


def test_the_runtime_of_each_version(api: Api) -> None:
    """By the flag's names; of one that has none, its own."""
    assert api.runtimes_header("m") == (HEADER.encode(), header_value({2: "litert"}).encode())
    assert api.runtimes_header("none") == (HEADER.encode(), header_value({}).encode())


def test_the_signatures_of_all_models(api: Api) -> None:
    """In the order of their names; a model that is not served has none."""
    models = api.signatures()
    assert list(models) == ["m"]
    assert list(models["m"]) == ["serving_default"]


def test_one_reload_too_many_is_told_so() -> None:
    """And may be tried again."""
    core = SlowCore()
    api = Api(cast("Any", core), cast("Any", SimpleNamespace()))

    async def ask() -> object:
        tasks = [asyncio.create_task(api.reload(config(str(number)))) for number in range(9)]
        await asyncio.sleep(0)
        core.gate.set()
        return (await asyncio.gather(*tasks, return_exceptions=True))[-1]

    assert str(asyncio.run(ask())) == "8 reloads are under way, as many as there may be: try again"


def test_long_names_are_quoted_in_part() -> None:
    """An error is not larger than what it says."""
    api = Api(cast("Any", SlowCore()), cast("Any", SimpleNamespace()))
    request = GetModelStatusRequest(model_spec=ModelSpec(name="m" * 10**6))

    with pytest.raises(NotFound) as raised:
        asyncio.run(api.status(request))

    assert str(raised.value) == f"Could not find any versions of model {'m' * 200}..."
