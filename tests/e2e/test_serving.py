"""One suite over a live server, whichever it is: container, tensorflow_model_server, embedded."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from fashion_common.served_model import CLASS_NAMES
from tests.support.console import FASHION, fashion
from tests.support.containers import run
from tests.support.live import wait_until
from tests.support.live_backend import STOP_SECONDS, LiveBackend, addresses

# The first of them builds an image.
pytestmark = pytest.mark.timeout(1800)
APIS = pytest.mark.parametrize("api", ["grpc", "rest"])


@APIS
def test_predictions_are_keras_own(
    live: LiveBackend, api: str, images: np.ndarray, keras_probabilities: np.ndarray
) -> None:
    """Probabilities, class ids and class names, over both APIs."""
    with live.connect(api) as connection:
        predictions = connection.predict(images)
    answered = np.array([prediction.probabilities for prediction in predictions])
    np.testing.assert_allclose(answered, keras_probabilities, rtol=1e-4, atol=1e-6)
    expected = [CLASS_NAMES[class_id] for class_id in keras_probabilities.argmax(axis=1)]
    assert [prediction.class_name for prediction in predictions] == expected


@APIS
def test_the_page_shows_what_fashion_predict_prints(
    live: LiveBackend, api: str, pictures: dict[Path, np.ndarray]
) -> None:
    """`fashion web` beside any server: the class, the share and the version of a picture; that it is AVAILABLE."""
    picture = next(iter(pictures))
    server = ("--server", live.servers[api])
    command = [FASHION, "web", "--port", "0", "--no-open", *server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = str(process.stdout and process.stdout.readline()).split()[-1]
            state = httpx.get(f"{address}api/state", timeout=30).json()
            content = picture.read_bytes()
            answer = httpx.post(f"{address}api/predict?name={picture.name}", content=content, timeout=30).json()
        finally:
            process.terminate()
    assert state["versions"][0]["state"] == "AVAILABLE"
    assert (state["counts"] is None) is (api == "grpc")
    for shown in answer["answers"]:
        version = ("--model-version", shown["version"])
        [printed] = json.loads(fashion("predict", "--json", *server, *version, picture).stdout)
        assert shown["class_name"] == printed["class_name"]
        assert shown["probability"] == pytest.approx(printed["probability"], abs=1e-5)


@APIS
def test_status_says_available(live: LiveBackend, api: str) -> None:
    """`fashion status` ends with 0, and every version that is there is AVAILABLE."""
    done = fashion("status", "--json", "--server", live.servers[api])
    assert done.returncode == 0, done.stderr
    states = {version["version"]: version["state"] for version in json.loads(done.stdout)}
    assert set(states.values()) == {"AVAILABLE"}


@APIS
def test_metadata_has_the_four_signatures(live: LiveBackend, api: str) -> None:
    """With names, dtypes and shapes of what goes in."""
    with live.connect(api) as connection:
        signatures = connection.metadata().signatures
    assert {"serving_default", "encoded_images", "float_images", "classify"} <= set(signatures)
    assert signatures["serving_default"].inputs["images"].dtype == "DT_UINT8"
    assert signatures["serving_default"].inputs["images"].shape == (-1, 28, 28)


def test_classify_answers_with_names_and_scores(
    live: LiveBackend, pictures: dict[Path, np.ndarray], keras_probabilities: np.ndarray
) -> None:
    """TF Serving's Classify API on the bytes of a PNG file."""
    content = base64.b64encode(next(iter(pictures)).read_bytes()).decode()
    body = {"signature_name": "classify", "examples": [{"image/encoded": {"b64": content}}]}
    answer = httpx.post(f"{live.servers['rest']}/v1/models/fashion_mnist:classify", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    scores = dict(answer.json()["results"][0])
    assert max(scores, key=lambda name: scores[name]) == CLASS_NAMES[int(keras_probabilities[0].argmax())]


@APIS
def test_any_model_calls_are_answered(
    live: LiveBackend, api: str, pictures: dict[Path, np.ndarray], images: np.ndarray, keras_probabilities: np.ndarray
) -> None:
    """Arrays in and out, tf.Examples of picture files, a mixture of pictures."""
    names = [CLASS_NAMES[class_id] for class_id in keras_probabilities.argmax(axis=1)]
    with live.connect(api) as connection:
        outputs = connection.infer({"images": images}, output_filter=["probabilities", "class_names"])
        examples = [{"image/encoded": path.read_bytes()} for path in pictures]
        scores = connection.classify(examples)
        mixture = [path if index % 2 else images[index] for index, path in enumerate(pictures)]
        predictions = connection.predict(mixture, preprocess="none")
    np.testing.assert_allclose(outputs["probabilities"], keras_probabilities, rtol=1e-4, atol=1e-6)
    assert [name.decode() for name in outputs["class_names"]] == names
    assert [max(row, key=lambda each: each.score).label for row in scores] == names
    assert [prediction.class_name for prediction in predictions] == names


@APIS
def test_the_command_line_that_fashion_call_shows_works(live: LiveBackend, api: str, tmp_path: Path) -> None:
    """In a shell, against the same server."""
    shown = fashion("call", "--server", live.servers[api], "--signature", "serving_default")
    assert shown.returncode == 0, shown.stderr
    line = shown.stdout.splitlines()[-1].strip()
    path = f"{Path(FASHION).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={**os.environ, "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.shape(json.loads(done.stdout)["probabilities"]) == (1, 10)


def test_metrics_are_where_the_configuration_says(live: LiveBackend, images: np.ndarray) -> None:
    """Prometheus finds the counted requests."""
    with live.connect() as connection:
        connection.predict(images[:1])
    answer = httpx.get(f"{live.servers['rest']}/monitoring/prometheus/metrics", timeout=30)
    assert answer.status_code == 200
    assert ':tensorflow:serving:request_count{model_name="fashion_mnist",status="OK"}' in answer.text


def version_of(backend: LiveBackend, label: str) -> int:
    """The version that answers for a label, over REST."""
    url = f"{backend.servers['rest']}/v1/models/fashion_mnist/labels/{label}/metadata"
    return int(httpx.get(url, timeout=30).json()["model_spec"]["version"])


def test_more_versions_are_picked_up_and_labels_lead_to_them(ours: LiveBackend, images: np.ndarray) -> None:
    """Without a restart: the newest by default, `stable` and `canary` by name; a third one takes none away."""
    ours.add_version(2)
    ours.wait_for(2)
    wait_until(lambda: version_of(ours, "canary") == 2)
    assert version_of(ours, "stable") == 1
    for label in ("stable", "canary"):
        request = {"instances": images[:1].tolist()}
        url = f"{ours.servers['rest']}/v1/models/fashion_mnist/labels/{label}"
        assert httpx.post(f"{url}:predict", json=request, timeout=30).status_code == 200
    with ours.connect() as connection:
        assert [(one.version, one.state) for one in connection.status()] == [(2, "AVAILABLE"), (1, "AVAILABLE")]
        assert connection.metadata().version == 2
    # The commands end when the server answers by the new version.
    assert ours.fashion("label", "stable=2") == "stable went from 1 to 2"
    assert version_of(ours, "stable") == 2
    assert ours.fashion("rollback") == "stable went from 2 to 1"
    assert version_of(ours, "stable") == 1
    ours.add_version(3)
    wait_until(lambda: version_of(ours, "canary") == 3)
    assert version_of(ours, "stable") == 1


def test_it_stops_within_seconds_and_starts_again(
    ours: LiveBackend, images: np.ndarray, keras_probabilities: np.ndarray
) -> None:
    """SIGTERM to `fashion serve` ends it with 0; the next start answers as the first."""
    code, seconds = ours.stop()
    assert code == 0
    assert seconds < STOP_SECONDS
    ours.start()
    with ours.connect() as connection:
        answered = [prediction.class_id for prediction in connection.predict(images)]
    assert answered == keras_probabilities.argmax(axis=1).tolist()


def test_it_detaches_and_is_stopped(
    ours: LiveBackend, tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--detach returns when the model is AVAILABLE; --stop ends it; a second --stop says that nothing runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    other = replace(ours, servers={})
    done = subprocess.run(
        other.command("--detach"), cwd=ours.directory, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    other.servers = addresses(done.stdout)
    try:
        with other.connect() as connection:
            assert len(connection.predict(images)) == 10
    finally:
        stopped = fashion("serve", "--stop", "--port", other.port)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "Stopped.\n", "")
    again = fashion("serve", "--stop", "--port", other.port)
    assert again.returncode == 1
    assert again.stderr.startswith(f"Error: no server was started with --detach on port {other.port}")


def test_a_model_that_cannot_be_loaded_fails_with_the_reason(ours: LiveBackend, tmp_path: Path) -> None:
    """Exit code 1 at once, and the server's own words, which are TF Serving's or the embedded server's."""
    version = tmp_path / "models/fashion_mnist/1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"no model")
    command = [FASHION, "serve", "--backend", ours.backend, "--port=0", "--rest-port=0", "--wait=100", *ours.arguments]
    began = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert time.monotonic() - began < 90
    assert re.match(
        r"Error: version 1 of fashion_mnist cannot be loaded: .*(OUT_OF_RANGE|saved_model\.pb|model\.tflite)",
        done.stderr.splitlines()[-1],
    ), done.stderr


def test_the_container_is_restricted_and_healthy(ours: LiveBackend) -> None:
    """Not root, a read-only file system, no capabilities, no new privileges; its health check passes."""
    if ours.backend != "container":
        pytest.skip(f"the {ours.backend} server runs in no container")
    assert run(ours.engine, "exec", ours.container, "id", "-u") == "1000"
    refused = subprocess.run(
        [ours.engine, "exec", ours.container, "touch", "/models/fashion_mnist/x"], capture_output=True, check=False
    )
    assert refused.returncode != 0
    inspected = json.loads(run(ours.engine, "inspect", ours.container))[0]
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    status = run(ours.engine, "exec", ours.container, "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapEff"], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    if "tensorflow/serving" in inspected["Config"]["Image"]:
        return  # The official image has no health check of its own.
    if ours.engine == "podman":
        run("podman", "healthcheck", "run", ours.container)
        return
    give_up = time.monotonic() + 40
    while run("docker", "inspect", "--format={{.State.Health.Status}}", ours.container) != "healthy":
        assert time.monotonic() < give_up
        time.sleep(0.5)
