"""The page's answers in JSON, in memory, from servers in memory."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import client.web
from client import limits
from client.errors import server_error
from client.types import Metadata, Signature, TensorInfo, VersionStatus
from client.web import answers
from client.web import application as application_module
from client.web import served as served_module
from tests.support.clocks import Clock
from tests.support.fake_server import FakeServer, metrics
from tests.support.page import page, picture

STATIC = Path(client.web.__file__).with_name("static")
MOST_BYTES = 60_000


def _with_page(server: FakeServer, look: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    """What `look` gives of the page that shows the server's model."""

    async def run() -> Any:
        async with page([server], **options) as browser:
            return await look(browser)

    return asyncio.run(run())


def _predict(server: FakeServer, content: Any, query: str = "", **options: Any) -> httpx.Response:
    response: httpx.Response = _with_page(
        server, lambda browser: browser.post(f"/api/predict?{query}", content=content), **options
    )
    return response


def test_the_page_is_small_and_has_nothing_inline_or_from_elsewhere() -> None:
    """HTML, CSS and JavaScript together; every file that it names is there."""
    files = [file for file in STATIC.iterdir() if file.suffix in (".html", ".css", ".js")]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    text = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", text)
    for file in files:
        links = re.findall(r"(?:src|href)=\"([^\"#]+)\"|from \"\./([^\"]+)\"|url\(([^)]+)\)", file.read_text())
        for link in filter(None, (name for names in links for name in names)):
            assert (STATIC / link).is_file(), (file.name, link)


def test_there_is_a_sample_of_every_class() -> None:
    """Named as the page's script names them."""
    names = re.search(r"SAMPLES = \[(.*?)\]", (STATIC / "pictures.js").read_text())
    assert names
    files = [re.sub(r"\W", "-", name.lower()) for name in re.findall(r'"(.*?)"', names[1])]
    assert sorted(f"{name}.svg" for name in files) == sorted(file.name for file in (STATIC / "samples").iterdir())
    assert len(files) == 10


def test_the_state_has_versions_labels_and_counts() -> None:
    """Both labels answer; what the server counted is of the looks at it."""

    async def look(browser: httpx.AsyncClient) -> dict[str, Any]:
        response = await browser.get("/api/state")
        assert response.status_code == 200
        return dict(response.json())

    state = _with_page(FakeServer(stable=1, canary=2), look)
    assert [(version["version"], version["state"], version["runtime"]) for version in state["versions"]] == [
        (2, "AVAILABLE", ""),
        (1, "AVAILABLE", "litert"),
    ]
    assert state["labels"] == {"stable": 1, "canary": 2}
    assert state["answering"] == [{"label": "stable", "version": 1}, {"label": "canary", "version": 2}]
    assert (state["garments"], state["waiting"], state["moves"]) == (True, "", [])
    assert state["counts"] == {
        "rate": None,
        "rates": [],
        "errors": 0.0,
        "latency_ms": {"50": None, "90": None, "99": None},
    }


@pytest.mark.parametrize(
    ("labels", "answering"),
    [
        ({}, [("", 2)]),
        ({"stable": 1}, [("stable", 1)]),
        ({"stable": 1, "canary": 1}, [("stable, canary", 1)]),
        ({"canary": 2}, [("canary", 2)]),
    ],
)
def test_who_answers_is_who_has_a_label_else_the_newest(
    labels: dict[str, int], answering: list[tuple[str, int]]
) -> None:
    """Two labels of one version are one answer."""
    response = _predict(FakeServer(**labels), picture())
    assert [(answer["label"], answer["version"]) for answer in response.json()["answers"]] == answering


def test_a_prediction_shows_what_the_model_saw_and_where_the_versions_differ() -> None:
    """Differences are those of the classes whose probabilities are more than half a point apart."""
    server = FakeServer(stable=1, canary=2)
    answer = _predict(server, picture(), "name=bag.png").json()
    seen = Image.open(io.BytesIO(base64.b64decode(answer["png"])))
    assert (seen.mode, seen.size) == ("L", (28, 28))
    assert seen.tobytes() == Image.open(io.BytesIO(picture())).tobytes()
    stable, canary = answer["answers"]
    assert (stable["class_name"], stable["probability"], len(stable["probabilities"])) == ("Bag", 0.91, 10)
    assert (canary["class_name"], answer["differs"], answer["warning"]) == ("Ankle boot", True, "")
    assert "differences" not in stable
    assert canary["differences"] == [*[None] * 8, pytest.approx(-0.9), pytest.approx(0.9)]
    assert stable["ms"] >= 0
    assert {*answer["snippets"]} == {"fashion predict", "Python", "curl", "Answer"}


def test_what_is_no_number_is_none() -> None:
    """JSON has no NaN."""

    class Broken(FakeServer):
        def outputs(self, call: Any) -> Any:
            outputs = super().outputs(call)
            outputs["probabilities"].values[3] = float("nan")  # type: ignore[index]
            return outputs

    [answer] = _predict(Broken(stable=1), picture()).json()["answers"]
    assert answer["probabilities"][3] is None
    assert answer["class_name"] == "Bag"


def test_an_implausible_picture_is_warned_of_as_by_the_command() -> None:
    """A blank one, and one that is read so that its background is light."""
    blank = io.BytesIO()
    Image.new("RGB", (100, 100), "white").save(blank, "PNG")
    assert _predict(FakeServer(), blank.getvalue()).json()["warning"].startswith("hardly anything differs")
    assert (
        _predict(FakeServer(), blank.getvalue(), "preprocess=none").json()["warning"].startswith("hardly any contrast")
    )


@pytest.mark.parametrize(
    ("content", "query", "status", "error"),
    [
        (b"no picture", "name=x.txt", 422, "x.txt: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"),
        (b"", "", 422, "picture.png: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"),
        (picture()[:60], "", 422, "picture.png: cannot be read as a picture: "),
        (picture(), "preprocess=magic", 422, "preprocess=magic: expected one of auto, photo, none"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes, query: str, status: int, error: str) -> None:
    """The text is the command's."""
    response = _predict(FakeServer(), content, query)
    assert response.status_code == status
    assert response.json()["error"].startswith(error)


def test_an_upload_has_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its length says, and as it arrives; one byte below is read."""
    content = picture()
    monkeypatch.setattr(application_module, "UPLOAD_BYTES", len(content))
    assert _predict(FakeServer(), content).status_code == 200
    monkeypatch.setattr(application_module, "UPLOAD_BYTES", len(content) - 1)

    async def pieces() -> Any:
        for start in range(0, len(content), 50):
            yield content[start : start + 50]

    for body in (content, pieces()):
        response = _predict(FakeServer(), body)
        assert response.status_code == 413
        assert response.json() == {"error": "more than 0 MB: send a smaller picture"}


def test_an_upload_has_the_clients_limit_in_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can claim any number of pixels."""
    monkeypatch.setattr("client.pictures.images.PICTURE_PIXELS", 40 * 40)
    assert _predict(FakeServer(), picture(size=40)).status_code == 200
    response = _predict(FakeServer(), picture(size=41))
    assert response.status_code == 422
    assert response.json()["error"] == "picture.png: 41x41 pixels are more than 1600: too large"
    assert limits.UPLOAD_BYTES == 32 * 2**20


def test_an_upload_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends slowly would keep the others waiting."""
    monkeypatch.setattr(application_module, "_UPLOAD_SECONDS", 0.05)

    async def silence() -> Any:
        yield b"x"
        await asyncio.sleep(60)

    response = _with_page(FakeServer(), lambda browser: browser.post("/api/predict", content=silence()))
    assert (response.status_code, response.json()) == (408, {"error": "the picture did not arrive within 0.05 s"})


def test_a_server_that_is_gone_is_said_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 while nothing answers; what was known of the server before is forgotten."""
    monkeypatch.setattr(served_module, "_FRESH_SECONDS", -1)
    server = FakeServer(stable=1)

    async def look(browser: httpx.AsyncClient) -> list[httpx.Response]:
        before = await browser.get("/api/state")
        server.errors = [server_error("UNAVAILABLE", "grpc://h:1: connection refused")] * 20
        gone = await browser.get("/api/state")
        server.errors.clear()
        server.labels = {"stable": 2}
        return [before, gone, await browser.get("/api/state")]

    before, gone, back = _with_page(server, look)
    assert gone.status_code == 503
    assert gone.json()["error"].startswith("UNAVAILABLE: grpc://h:1: connection refused (")
    assert before.json()["answering"] == [{"label": "stable", "version": 1}]
    assert back.json()["answering"] == [{"label": "stable", "version": 2}]


def test_an_error_of_the_server_is_passed_on() -> None:
    """502: the page works, the server does not."""
    server = FakeServer()
    server.errors = [server_error("INTERNAL", "broken")] * 4
    response = _with_page(server, lambda browser: browser.get("/api/state"))
    assert (response.status_code, response.json()) == (502, {"error": "INTERNAL: broken"})


def test_a_label_that_the_server_cannot_answer_for_is_an_error() -> None:
    """Only a label that is not there, or whose version is not, is no label."""

    class Broken(FakeServer):
        def metadata(self, model: Any) -> Any:
            if model.version_label:
                raise server_error("INTERNAL", "broken")
            return super().metadata(model)

    assert _with_page(Broken(), lambda browser: browser.get("/api/state")).status_code == 502


def test_while_no_version_is_available_the_page_waits() -> None:
    """It says which states the versions are in."""
    server = FakeServer()
    server.versions = [VersionStatus(3, "LOADING")]

    async def look(browser: httpx.AsyncClient) -> tuple[Any, httpx.Response]:
        return (await browser.get("/api/state")).json(), await browser.post("/api/predict", content=picture())

    state, response = _with_page(server, look)
    assert state["waiting"] == "no version is AVAILABLE yet: version 3 is LOADING"
    assert (response.status_code, response.json()) == (503, {"error": state["waiting"]})


def test_labels_that_move_are_told_the_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that comes, one that moves, one that goes."""
    monkeypatch.setattr(served_module, "_FRESH_SECONDS", -1)
    server = FakeServer(stable=1)

    async def look(browser: httpx.AsyncClient) -> Any:
        for labels in ({"stable": 1}, {"stable": 1, "canary": 2}, {"stable": 2, "canary": 2}, {"stable": 2}):
            server.labels = labels
            state = (await browser.get("/api/state")).json()
        return state["moves"]

    moves = _with_page(server, look)
    assert [(move["label"], move["before"], move["after"]) for move in moves] == [
        ("canary", 2, None),
        ("stable", 1, 2),
        ("canary", None, 2),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", moves[0]["time"])


def test_looks_within_a_second_are_one() -> None:
    """Several pages, or pictures, ask the server once."""
    server = FakeServer(stable=1)

    async def look(browser: httpx.AsyncClient) -> list[dict[str, Any]]:
        first = await browser.get("/api/state")
        server.text = metrics(7, 0)
        return [first.json()["counts"], (await browser.get("/api/state")).json()["counts"]]

    first, second = _with_page(server, look)
    assert first == second


def test_over_grpc_there_are_no_counts() -> None:
    """TF Serving has metrics over REST only."""
    server = FakeServer()
    server.text = None
    state = _with_page(server, lambda browser: browser.get("/api/state")).json()
    assert state["counts"] is None
    assert state["uncounted"] == (
        "Requests and latency are in the metrics, which are on the REST port: --server http://HOST:8501."
    )


def test_a_server_whose_metrics_are_off_is_told_so() -> None:
    """TF Serving has them where its monitoring configuration says so."""

    class Silent(FakeServer):
        def metrics(self) -> Any:
            raise server_error("NOT_FOUND", "HTTP status 404")

    state = _with_page(Silent(), lambda browser: browser.get("/api/state")).json()
    assert state["counts"] is None
    assert state["uncounted"] == "The server has no metrics (NOT_FOUND): --monitoring_config_file turns them on."


@pytest.mark.parametrize(
    ("inputs", "outputs", "garments"),
    [
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"probabilities": (-1, 10)}, True),
        ({"x": ("DT_FLOAT", (-1, 784))}, {"output_0": (-1, 10)}, True),
        ({"x": ("DT_FLOAT", (-1, 784))}, {"output_0": (-1, 3)}, False),
        ({"x": ("DT_FLOAT", (-1, 4))}, {"output_0": (-1, 10)}, False),
        ({"x": ("DT_FLOAT", (-1, 28, 28)), "y": ("DT_FLOAT", (-1,))}, {"output_0": (-1, 10)}, False),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"a": (-1, 10), "b": (-1, 10)}, False),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"a": (-1, 10), "scores": (-1, 10)}, True),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"a": (-1, 3), "probabilities": (-1, 10)}, True),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"output_0": (-1, -1)}, True),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"output_0": (-1, 1)}, False),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {"output_0": ()}, True),
        ({"images": ("DT_UINT8", (-1, 28, 28))}, {}, False),
    ],
)
def test_a_model_that_takes_garments_is_known_by_its_signature(
    inputs: dict[str, tuple[str, tuple[int, ...]]], outputs: dict[str, tuple[int, ...]], garments: bool
) -> None:
    """Images of 28x28 in one input, ten probabilities in one output."""
    server = FakeServer()
    signature = Signature(
        {name: TensorInfo(*info) for name, info in inputs.items()},
        {name: TensorInfo("DT_FLOAT", shape) for name, shape in outputs.items()},
        "tensorflow/serving/predict",
    )
    server.model_metadata = Metadata("fashion_mnist", 1, {"serving_default": signature})
    assert _with_page(server, lambda browser: browser.get("/api/state")).json()["garments"] is garments


def test_an_answer_has_the_milliseconds_that_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a hundredth; what was to be known of the model before is no part of them."""
    clock = Clock()

    class Timed(FakeServer):
        async def send(self, request: Any, timeout: float) -> Any:
            clock.now += 0.25 if request is None else 0.0123456
            return await super().send(request, timeout)

    monkeypatch.setattr(answers, "time", clock)
    [answer] = _predict(Timed(stable=1), picture()).json()["answers"]
    assert answer["ms"] == 12.35


def test_rounding_is_no_difference() -> None:
    """More than half a point is: two runtimes of one version differ by less."""
    differences = [0.005, 0.0051, -0.005, -0.0051, 0.0]
    shown = [None, 0.0051, None, -0.0051, None]

    class Close(FakeServer):
        def outputs(self, call: Any) -> Any:
            outputs = super().outputs(call)
            values = [0.0] * 10
            if self.class_id == 9:
                values[: len(differences)] = differences
            return {"probabilities": outputs["probabilities"]._replace(values=values)}

    _, canary = _predict(Close(stable=1, canary=2), picture()).json()["answers"]
    assert canary["differences"] == [*(pytest.approx(value) if value else None for value in shown), *[None] * 5]


def test_a_pictures_name_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """To as many characters as a file may have; it comes from whoever uses the page."""
    snippets = _predict(FakeServer(), picture(), f"name={'n' * 300}").json()["snippets"]
    assert json.loads(snippets["Answer"])["file"] == "n" * 255
    assert json.loads(_predict(FakeServer(), picture()).json()["snippets"]["Answer"])["file"] == "picture.png"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "predict", 404),
        ("GET", "infer", 404),
        ("POST", "state", 405),
        ("HEAD", "state", 200),
        ("GET", "no", 404),
    ],
)
def test_each_address_has_its_method(method: str, path: str, status: int) -> None:
    """An error is JSON with its text."""
    response = _with_page(FakeServer(), lambda browser: browser.request(method, f"/api/{path}"))
    assert response.status_code == status
    if status >= 400:
        assert response.json() == {"error": "Not Found" if status == 404 else "Method Not Allowed"}


def test_a_look_is_fresh_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the server is asked again; its counts are of the monotonic clock's times."""
    clock = Clock()
    monkeypatch.setattr(served_module, "time", clock)
    monkeypatch.setattr(clock, "monotonic", clock.perf_counter, raising=False)
    server = FakeServer(stable=1)

    async def look(browser: httpx.AsyncClient) -> list[Any]:
        states = []
        for seconds, count in ((0, 0), (1, 100), (0.25, 100), (1.25, 250)):
            clock.now += seconds
            server.text = metrics(count, 0)
            states.append((await browser.get("/api/state")).json()["counts"]["rates"])
        return states

    assert _with_page(server, look) == [[], [], [80], [80, 120]]


def test_twenty_moves_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of them."""
    monkeypatch.setattr(served_module, "_FRESH_SECONDS", -1)
    server = FakeServer(stable=1)

    async def look(browser: httpx.AsyncClient) -> Any:
        for number in range(23):
            server.labels = {"stable": 1 + number % 2}
            state = (await browser.get("/api/state")).json()
        return state["moves"]

    moves = _with_page(server, look)
    assert [(move["before"], move["after"]) for move in moves] == [(2, 1), (1, 2)] * 10


def test_metrics_are_those_of_the_first_server_that_has_them() -> None:
    """Over gRPC there are none; each server counts for itself."""
    silent, first, second = FakeServer(), FakeServer(), FakeServer()
    silent.text, first.text, second.text = None, metrics(7, 0), metrics(9, 0)

    async def run() -> Any:
        async with page([silent, first, second]) as browser:
            await browser.get("/api/state")
            first.text, second.text = metrics(8, 1), metrics(99, 0)
            return (await browser.get("/api/state")).json()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_module, "_FRESH_SECONDS", -1)
        state = asyncio.run(run())
    assert (state["counts"]["errors"], state["uncounted"]) == (1, "")
    assert len(state["counts"]["rates"]) == 1


@pytest.mark.parametrize("code", ["NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAVAILABLE"])
def test_a_label_that_is_not_there_is_none(code: str) -> None:
    """Whatever the server says of it."""

    class Without(FakeServer):
        def metadata(self, model: Any) -> Any:
            if model.version_label:
                raise server_error(code, "no")
            return super().metadata(model)

    state = _with_page(Without(), lambda browser: browser.get("/api/state")).json()
    assert state["labels"] == {}
    assert state["answering"] == [{"label": "", "version": 2}]
