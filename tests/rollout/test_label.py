"""`fashion label` and `fashion rollback`: what they list, what they move, and what running servers answer then."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format

from client import connect
from client.cli import fashion
from client.errors import ServerError
from client.types import ModelSpec
from fashion_common.labels import read_labels
from serving.apis.messages import ModelServerConfig
from tests.support.detached import DetachedServer, detached_server
from tests.support.live import KITCHEN, wait_until
from tests.support.simulated_servers import PlannedClock, simulated_server


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model base path with the versions 1, 2 and 7; no server runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    base = tmp_path / "models/fashion_mnist"
    for version in (1, 2, 7):
        (base / str(version)).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return base


def invoke(*arguments: object) -> Result:
    """`fashion` with these arguments."""
    return CliRunner().invoke(fashion, [*map(str, arguments)])


def test_labels_are_listed(base: Path) -> None:
    """Version, since when and by what; listing writes nothing."""
    assert invoke("label").stdout == "canary  7  by default\nstable  2  by default\n"
    assert sorted(path.name for path in base.iterdir()) == ["1", "2", "7"]
    invoke("label", "stable=1", "blue=2")
    time = read_labels(base).history[0].time
    assert invoke("label").stdout == (
        f"canary  7  by default\nstable  1  since {time} by label\nblue  2  since {time} by label\n"
    )
    facts = json.loads(invoke("label", "--json").stdout)
    assert facts["labels"]["blue"] == {"version": 2, "since": time, "action": "label", "servers": {}}
    assert [move["label"] for move in facts["history"]] == ["stable", "blue"]


def test_a_move_says_from_where_to_where(base: Path) -> None:
    """One that names the version already changes nothing; an empty version is that by default."""
    assert invoke("label", "stable=7", "blue=1").stdout == "stable went from 2 to 7\nblue went from none to 1\n"
    assert invoke("label", "stable=7").stdout == "stable is 7 already\n"
    assert len(read_labels(base).history) == 2
    assert invoke("label", "stable=", "blue=").stdout == "stable went from 7 to 2\nblue went from 1 to none\n"
    assert read_labels(base).moved == {}
    result = invoke("label", "stable=1", "--json")
    assert json.loads(result.stdout) == {
        "dry_run": False,
        "labels": [{"label": "stable", "before": 2, "after": 1}],
    }


def test_a_dry_run_says_the_same_and_changes_nothing(base: Path) -> None:
    """Of rollback too."""
    assert invoke("label", "stable=7", "canary=7", "--dry-run").stdout == (
        "stable would go from 2 to 7\ncanary is 7 already\n"
    )
    assert not (base / "labels.json").exists()
    invoke("label", "stable=7")
    assert invoke("label", "stable=", "--dry-run").stdout == "stable would go from 7 to 2\n"
    assert invoke("rollback", "--dry-run").stdout == "stable would go from 7 to 2\n"
    assert read_labels(base).moved == {"stable": 7}


def test_the_history_is_listed(base: Path) -> None:
    """A line a move, with the reason."""
    invoke("label", "stable=7", "--reason", "better boots")
    invoke("rollback", "--reason", "worse shirts")
    first, second = read_labels(base).history
    assert invoke("label", "--history").stdout == (
        f"{first.time}  stable 2 -> 7  label: better boots\n{second.time}  stable 7 -> 2  rollback: worse shirts\n"
    )


def test_a_rollback_returns_step_by_step(base: Path) -> None:
    """Until there is nothing to go back to; a version that is gone is not gone back to."""
    invoke("label", "stable=1")
    invoke("label", "stable=7")
    assert invoke("rollback").stdout == "stable went from 7 to 1\n"
    assert invoke("rollback").stdout == "stable went from 1 to 2\n"
    result = invoke("rollback")
    assert result.exit_code == 2
    assert result.stderr.endswith("stable was never moved: `fashion label stable=N` names a version of 1, 2, 7\n")
    invoke("label", "canary=2")
    invoke("label", "canary=1")
    (base / "2").rmdir()
    result = invoke("rollback", "canary")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "canary named version 2 before, which is gone: `fashion label canary=N` names one of 1, 7\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stable"], "stable: expected LABEL=VERSION, such as stable=3"),
        (["stable=new"], "stable=new: expected LABEL=VERSION"),
        (["a b=3"], "'a b' is no label: 1 to 100 characters"),
        (["stable=3"], "stable=3: models/fashion_mnist has no version 3, only 1, 2, 7"),
        (["=3"], "'' is no label: 1 to 100 characters without / : = and spaces"),
        (["stable="[:-1]], "stable: expected LABEL=VERSION, such as stable=3"),
        (["stable=-1"], "stable=-1: expected LABEL=VERSION, such as stable=3"),
        (["stable=1", "--history"], "--history only lists: move labels without it"),
        (["--model-base-path", "none"], "Could not find base path none: create it, or correct the path. --model-base-"),
    ],
)
@pytest.mark.usefixtures("base")
def test_what_cannot_be_is_asked_wrongly(arguments: list[str], message: str) -> None:
    """Exit code 2, one line, nothing moved."""
    result = invoke("label", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.splitlines()[-1]
    assert not Path("models/fashion_mnist/labels.json").exists()


def model(text: str) -> Any:
    """The one model of a models.config."""
    [config] = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    return config


@pytest.mark.usefixtures("base")
def test_a_models_config_gets_the_labels(tmp_path: Path) -> None:
    """As compose mounts it: after a move, or without one."""
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow" } }')
    result = invoke("label", "stable=1", "--models-config", file)
    assert result.exit_code == 0, result.stderr
    assert dict(model(file.read_text()).version_labels) == {"stable": 1, "canary": 7}
    assert model(file.read_text()).model_version_policy.latest.num_versions == 4
    invoke("label", "stable=2")
    assert invoke("label", "--models-config", file).exit_code == 0
    assert dict(model(file.read_text()).version_labels) == {"stable": 2, "canary": 7}


@pytest.mark.usefixtures("base")
def test_a_patch_for_kubernetes_is_printed() -> None:
    """`data` of a ConfigMap, with models.config as text."""
    import yaml

    patch = yaml.safe_load(invoke("label", "--configmap").stdout)
    assert list(patch) == ["data"]
    config = model(patch["data"]["models.config"])
    assert (config.base_path, dict(config.version_labels)) == ("/models/fashion_mnist", {"stable": 2, "canary": 7})


@pytest.mark.usefixtures("base")
def test_a_move_and_a_patch_are_printed_together() -> None:
    """What has moved first, then the labels as they are now; with --models-config that is not a list."""
    import yaml

    first, patch = invoke("label", "stable=1", "--configmap").stdout.split("\n", 1)
    assert first == "stable went from 2 to 1"
    assert dict(model(yaml.safe_load(patch)["data"]["models.config"]).version_labels) == {"stable": 1, "canary": 7}
    assert patch.startswith("data:\n  models.config: |\n    model_config_list {\n")
    assert patch.endswith("    }\n")


@pytest.mark.usefixtures("base")
def test_a_dry_run_leaves_a_models_config_alone(tmp_path: Path) -> None:
    """As everything else; a move says on stderr that it was written."""
    file = tmp_path / "models.config"
    text = 'model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow" } }'
    file.write_text(text)
    done = invoke("label", "stable=1", "--models-config", file, "--dry-run")
    assert (done.output, file.read_text()) == ("stable would go from 2 to 1\n", text)
    done = invoke("label", "stable=1", "--models-config", file)
    assert (done.stdout, done.stderr) == (
        "stable went from 2 to 1\n",
        f"{file} has the labels: its server looks at it by --model_config_file_poll_wait_seconds\n",
    )
    done = invoke("rollback", "--models-config", file, "--json")
    assert json.loads(done.stdout) == {"dry_run": False, "labels": [{"label": "stable", "before": 1, "after": 2}]}
    assert dict(model(file.read_text()).version_labels) == {"stable": 2, "canary": 7}
    assert invoke("label", "--models-config", tmp_path / "none").exit_code == 2


def test_a_dry_run_as_json(base: Path) -> None:
    """A label that is removed has no version afterwards; one that is there for the first time has none before."""
    invoke("label", "blue=1")
    done = invoke("label", "blue=", "green=7", "--dry-run", "--json")
    assert json.loads(done.stdout) == {
        "dry_run": True,
        "labels": [
            {"label": "blue", "before": 1, "after": None},
            {"label": "green", "before": None, "after": 7},
        ],
    }
    assert done.stdout.startswith('{\n  "dry_run": true,')
    assert read_labels(base).moved == {"blue": 1}


def test_what_is_listed_as_json(base: Path) -> None:
    """Labels that are served first, then the others by name, with the server's answers; every move with its reason."""
    invoke("label", "blue=1", "azure=2", "--reason", "colours")
    with simulated_server(base) as server:
        server.labels = {"stable": 2, "blue": 7}
        done = invoke("label", "--json", "--model-base-path", base)
        lines = invoke("label").stdout.splitlines()
    time = read_labels(base).history[0].time
    moved = {"since": time, "action": "label"}
    default = {"since": None, "action": None}
    assert json.loads(done.stdout)["labels"] == {
        "canary": {"version": 7, **default, "servers": {server.url: None}},
        "stable": {"version": 2, **default, "servers": {server.url: 2}},
        "azure": {"version": 2, **moved, "servers": {server.url: None}},
        "blue": {"version": 1, **moved, "servers": {server.url: 7}},
    }
    assert list(json.loads(done.stdout)["labels"]) == ["canary", "stable", "azure", "blue"]
    assert lines[0] == f"canary  7  by default  {server.url}: none"
    assert lines[3] == f"blue  1  since {time} by label  {server.url}: 7"
    assert json.loads(done.stdout)["history"][0] == {
        "time": time, "label": "blue", "before": None, "after": 1, "action": "label", "reason": "colours",
        "evidence": None,
    }  # fmt: skip


def test_a_label_that_was_removed_is_listed_by_default_again(base: Path) -> None:
    """`stable` has its version without being moved; the moves stay in the history."""
    invoke("label", "stable=7")
    invoke("label", "stable=")
    assert invoke("label").stdout == "canary  7  by default\nstable  2  by default\n"
    first, second = read_labels(base).history
    assert invoke("label", "--history").stdout == (
        f"{first.time}  stable 2 -> 7  label\n{second.time}  stable 7 -> none  label\n"
    )


@pytest.mark.parametrize(("command", "moved"), [(["label", "stable=1"], "by default"), (["rollback"], "7")])
def test_servers_have_half_a_minute_by_default(
    base: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], moved: str
) -> None:
    """--wait says another number of seconds, 0 or more."""
    if command == ["rollback"]:
        invoke("label", "stable=7")
    monkeypatch.setattr("rollout.move.time", PlannedClock())
    with simulated_server(base) as server:
        server.labels = {"stable": 5}
        for options, text in (([], "30"), (["--wait", "0.5"], "0.5")):
            done = invoke(*command, *options)
            wanted = 1 if command != ["rollback"] else 2
            assert done.stderr == (
                f"Error: {server.url} does not follow in {text} s (--wait takes more): stable is version 5 there, "
                f"not {wanted}; put back: stable={moved}\n"
            )
        assert invoke(*command, "--wait", "-1").exit_code == 2


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetachedServer]:
    """It serves the versions 1 and 2 of the recorded model, `stable` and `canary`."""
    directory = tmp_path_factory.mktemp("live")
    for version in ("1", "2"):
        shutil.copytree(KITCHEN / version, directory / "kitchen" / version)
    with detached_server(directory / "kitchen", directory / "state") as server:
        yield server


def test_a_label_has_moved_when_the_server_answers_by_it(live: DetachedServer) -> None:
    """When the command ends, and no request fails meanwhile."""
    live.fashion("label", "stable=1")
    failures: list[ServerError] = []
    versions: list[int] = []
    moved = threading.Event()

    def ask() -> None:
        model = ModelSpec("kitchen", version_label="stable")
        while not moved.is_set():
            try:
                with connect(f"grpc://{live.address}", model=model) as connection:
                    versions.append(connection.metadata().version)
            except ServerError as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        done = live.fashion("label", "stable=2", "--reason", "it is better")
        assert (done.returncode, done.stdout) == (0, "stable went from 1 to 2\n"), done.stderr
        assert done.stderr == f"{live.url} answers by it\n"
        assert live.version("stable") == 2
    finally:
        moved.set()
        thread.join()
    assert failures == []
    assert versions == sorted(versions)
    listed = live.fashion("label")
    assert re.search(rf"^stable  2  since \S+ by label  {live.url}: 2$", listed.stdout, re.MULTILINE)
    done = live.fashion("rollback")
    assert (done.returncode, done.stdout) == (0, "stable went from 2 to 1\n"), done.stderr
    assert live.version("stable") == 1


def test_a_third_version_leaves_the_labelled_one_loaded(live: DetachedServer) -> None:
    """`canary` goes to the new one, `stable` stays what it is, and a label may pin one that is neither."""
    live.fashion("label", "stable=1")
    shutil.copytree(KITCHEN / "2", live.base / ".3")
    (live.base / ".3").rename(live.base / "3")
    try:
        wait_until(lambda: live.version("canary") == 3)
        assert live.version("stable") == 1
        done = live.fashion("label", "blue=2")
        assert done.returncode == 0, done.stderr
        assert live.version("blue") == 2
        versions = json.loads(live.fashion("versions", "--json").stdout)
        assert [(row["version"], row["labels"], row["loaded"]) for row in versions] == [
            (3, ["canary"], [live.url]),
            (2, ["blue"], [live.url]),
            (1, ["stable"], [live.url]),
        ]
    finally:
        assert live.fashion("label", "blue=").returncode == 0
        shutil.rmtree(live.base / "3")
    wait_until(lambda: live.version("canary") == 2)


def test_a_label_is_put_back_when_its_version_cannot_be_loaded(live: DetachedServer) -> None:
    """With the server's reason; what it answered before, it goes on to answer."""
    live.fashion("label", "stable=1")
    shutil.copytree(KITCHEN / "2", live.base / ".4")
    (live.base / ".4/saved_model.pb").write_bytes(b"no model")
    (live.base / ".4").rename(live.base / "4")
    try:
        done = live.fashion("label", "stable=4", "--wait", "50")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            rf"Error: {live.url} cannot follow: version 4 cannot be loaded: .+; put back: stable=1\n", done.stderr
        )
        assert read_labels(live.base).moved == {"stable": 1}
        assert read_labels(live.base).history[-1].action == "put back"
        assert live.version("stable") == 1
    finally:
        shutil.rmtree(live.base / "4")


def test_a_label_is_put_back_when_the_server_takes_too_long(live: DetachedServer) -> None:
    """The time is in the text, and what the server answers instead."""
    live.fashion("label", "stable=1")
    done = live.fashion("label", "stable=2", "--wait", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {live.url} does not follow in 0 s (--wait takes more): stable is version 1 there, not 2; "
        "put back: stable=1\n"
    )
    assert read_labels(live.base).moved == {"stable": 1}
