"""What each backend runs, to the letter, and which one is chosen."""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import re
import shlex
import shutil
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.cli import fashion
from fashion_common.errors import LabelsError
from fashion_common.installation import module_command
from fashion_common.labels import labels_writer, read_labels
from serving.launch import choose
from serving.launch.backends import ServeOptions, container, embedded, stop_container, usage_command
from serving.launch.choose import find_engine
from serving.launch.errors import BackendUnavailableError, LaunchError, ServeUsageError
from serving.launch.offer import Offer
from serving.launch.prepare import (
    check_readable,
    config_files,
    keep_labels,
    served_labels,
    temporary_config,
    versions_to_serve,
    with_config,
    with_free_ports,
)
from tests.support.live import KITCHEN

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "serving" / "config"
CONFIG_FLAGS = (
    "--model_config_file={0}/models.config --model_config_file_poll_wait_seconds=3 "
    "--allow_version_labels_for_unavailable_models=true --enable_batching=true "
    "--batching_parameters_file={0}/batching.config --monitoring_config_file={0}/monitoring.config"
)
RESTRICTIONS = "--read-only --tmpfs=/tmp --cap-drop=ALL --security-opt=no-new-privileges --user=1000:1000"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with two versions of the model, an amd64 machine with docker, a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("ENGINE", "SERVING_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    for version in ("1", "2"):
        shutil.copytree(KITCHEN / version, tmp_path / "models/fashion_mnist" / version)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(choose, "has_init", lambda _: True)
    _engine(monkeypatch, "docker")


def _engine(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """Makes one engine run here, or none."""

    def find_engine(wanted: str | None) -> str:
        if name is None or wanted not in (None, name):
            raise BackendUnavailableError("no container engine: docker is not on the PATH, podman is not on the PATH")
        return name

    monkeypatch.setattr(choose, "find_engine", find_engine)


def serve(*arguments: str) -> Result:
    """`fashion serve` with these arguments."""
    return CliRunner().invoke(fashion, ["serve", *arguments])


NOTE = "Note: nothing was written. --detach would write "


def command_line(*arguments: str) -> str:
    """The command line that `--print-command` prints, with a line on stderr that says what is not there yet.

    Nothing is written: every file is what it was, and no other is there.
    """
    before = contents(Path())
    result = serve("--print-command", *arguments)
    assert result.exit_code == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(NOTE)
    assert contents(Path()) == before
    return result.stdout


def contents(directory: Path) -> dict[Path, bytes | None]:
    """What lies under a directory: the bytes of files, None for directories."""
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def test_the_container(tmp_path: Path) -> None:
    """The official image, restricted, on loopback, with a configuration that names the labelled versions."""
    assert command_line() == (
        f"docker run --rm --init --name=fashion-serving-8500 {RESTRICTIONS} "
        "--publish=127.0.0.1:8500:8500 --publish=127.0.0.1:8501:8501 "
        f"--volume={tmp_path}/models/fashion_mnist:/models/fashion_mnist:ro "
        f"--volume={tmp_path}/state/fashion-serving/8500/config:/config:ro "
        f"tensorflow/serving:2.21.0 {CONFIG_FLAGS.format('/config')}\n"
    )


def test_ports_of_0_are_chosen_when_the_command_is_only_printed() -> None:
    """What is printed can be run."""
    printed = command_line("--port", "0", "--rest-port", "0")
    ports = re.findall(r"--publish=127\.0\.0\.1:(\d+):(\d+)", printed)
    assert [inner for _, inner in ports] == ["8500", "8501"]
    assert all(int(outer) > 1023 for outer, _ in ports)


def test_the_docker_run_of_readme_is_the_one_that_is_run() -> None:
    """README's command, with its $PWD as the project's root, is what `fashion serve --backend container` runs."""
    block = re.search(r"^\$ (docker run (?:.*\\\n)*.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert block, "README.md shows no docker run"
    readme = shlex.split(block[1].replace("\\\n", " ").replace("$PWD", str(ROOT)))
    ours = shlex.split(command_line("--backend", "container"))
    # What docker runs by itself reads the configuration of the repository.
    ours = [word.replace(f"{Path.cwd()}/state/fashion-serving/8500/config", str(CONFIG)) for word in ours]
    models = f"--volume={Path.cwd()}/models"
    assert readme == [word.replace(models, f"--volume={ROOT}/models") for word in ours]


@pytest.mark.parametrize(
    ("engine", "flag"), [("docker", "--gpus=all"), ("podman", "--device=nvidia.com/gpu=all")], ids=["docker", "podman"]
)
def test_the_gpu_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, flag: str) -> None:
    """The GPU image, with the engine's own way to hand GPUs in; other ports, another image name."""
    _engine(monkeypatch, engine)
    assert command_line("--gpu", "--port", "9500", "--rest-port", "9501", "--host", "0.0.0.0") == (
        f"{engine} run --rm --init --name=fashion-serving-9500 {RESTRICTIONS} {flag} "
        "--publish=0.0.0.0:9500:8500 --publish=0.0.0.0:9501:8501 "
        f"--volume={tmp_path}/models/fashion_mnist:/models/fashion_mnist:ro "
        f"--volume={tmp_path}/state/fashion-serving/9500/config:/config:ro "
        f"tensorflow/serving:2.21.0-gpu {CONFIG_FLAGS.format('/config')}\n"
    )


def test_the_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tensorflow_model_server with a models.config of its own: the base path is another one."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert command_line("--backend", "binary") == (
        "tensorflow_model_server --port=8500 --rest_api_port=8501 "
        f"{CONFIG_FLAGS.format(tmp_path / 'state/fashion-serving/8500/config')}\n"
    )


def test_the_embedded_server(tmp_path: Path) -> None:
    """The same flags, the address to listen on, and whatever comes after --."""
    line = command_line("--backend", "embedded", "--", "--workers=2")
    assert line == (
        f"{shlex.join(module_command('serving.embedded'))} --host=127.0.0.1 --port=8500 --rest_api_port=8501 "
        f"{CONFIG_FLAGS.format(tmp_path / 'state/fashion-serving/8500/config')} --workers=2\n"
    )


@pytest.mark.parametrize(
    ("backend", "command"),
    [
        ("container", ["podman", "run", "--rm", *RESTRICTIONS.split(), "fashion-serving", "--help"]),
        ("binary", ["tensorflow_model_server", "--help"]),
        ("embedded", [*module_command("serving.embedded"), "--help"]),
    ],
)
def test_each_server_prints_its_own_flags(backend: str, command: list[str]) -> None:
    """The container's without its model."""
    assert usage_command(ServeOptions(backend=backend, engine="podman", image="fashion-serving")) == command


def test_the_written_configuration_has_path_name_versions_and_labels(tmp_path: Path) -> None:
    """models.config as this server needs it, and the other two files as they are."""
    shutil.copytree(KITCHEN / "1", tmp_path / "models/fashion_mnist/7")
    options = ServeOptions(backend="embedded", model_name="coats")
    versions = versions_to_serve(options, Offer())
    labels = served_labels(options, {"stable": 1}, versions)
    directory = tmp_path / "config"

    assert with_config(options, config_files(options, labels, versions), directory).config_dir == directory

    assert (directory / "models.config").read_text() == (
        "model_config_list {\n"
        "  config {\n"
        '    name: "coats"\n'
        f'    base_path: "{tmp_path}/models/fashion_mnist"\n'
        '    model_platform: "tensorflow"\n'
        "    model_version_policy {\n      specific {\n        versions: 1\n        versions: 7\n      }\n    }\n"
        '    version_labels {\n      key: "canary"\n      value: 7\n    }\n'
        '    version_labels {\n      key: "stable"\n      value: 1\n    }\n'
        "  }\n}\n"
    )
    for name in ("batching.config", "monitoring.config"):
        assert (directory / name).read_text() == (CONFIG / name).read_text()


def test_serving_writes_down_what_stable_is_and_what_was_given() -> None:
    """Once: `stable` is the newest but one at the first start, and stays it; `canary` follows the newest."""
    options = ServeOptions()
    keep_labels(options, {}, 1)
    keep_labels(options, {}, 2)
    keep_labels(options, {"blue": 2, "stable": 1}, 1)
    labels = read_labels(options.model_base_path)
    assert labels.moved == {"stable": 1, "blue": 2}
    assert [(move.label, move.after, move.action) for move in labels.history] == [
        ("stable", 1, "serve"), ("blue", 2, "serve"),
    ]  # fmt: skip


def test_a_model_base_path_that_cannot_be_written_is_served_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a volume that is mounted for reading; but what was given with --label is not lost in silence."""
    monkeypatch.setattr("fashion_common.labels.write_whole", cannot_write)
    keep_labels(ServeOptions(), {}, 1)
    with pytest.raises(LabelsError, match=r"labels\.json cannot be written: Read-only file system$"):
        keep_labels(ServeOptions(), {"stable": 2}, 2)


def cannot_write(*_: object) -> None:
    """What a file system that is mounted for reading does."""
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_label_of_a_version_that_is_gone_is_named() -> None:
    """With the command that moves it."""
    with labels_writer(Path("models/fashion_mnist")) as writer:
        writer.move({"stable": 2}, action="label")
    shutil.rmtree("models/fashion_mnist/2")
    result = serve("--print-command")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "the label stable=2: version 2 is not there, only these are: 1. `fashion label stable=N` moves a label\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "stable"], "stable: expected LABEL=VERSION, such as stable=3"),
        (["--label", "stable=99"], "--label stable=99: version 99 is not there, only these are: 1, 2. "),
        (["--gpu", "--backend", "embedded"], "--gpu chooses TF Serving's GPU image: it needs --backend container"),
        (["--engine", "podman", "--backend", "container"], "no container engine"),
        (["--backend", "binary"], "tensorflow_model_server is not on the PATH"),
    ],
    ids=["label", "no such version", "gpu", "engine", "binary"],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    """Said before anything starts."""
    result = serve(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stop", "--detach"], "--detach and --stop exclude each other: give one of them"),
        (["--print-command", "--stop"], "--print-command and --stop exclude each other"),
        (["--detach", "--print-command"], "--print-command and --detach exclude each other"),
        (["--backend", "binary", "--image", "mine"], "--image is for --backend container, not binary"),
        (["--backend", "embedded", "--engine", "docker"], "--engine is for --backend container, not embedded"),
        (["--", "--port=9"], "--port after -- contradicts --port of `fashion serve`: give --port, before --"),
        (["--", "--rest_api_port", "9"], "--rest_api_port after -- contradicts --rest-port of `fashion serve`"),
        (["--", "-model_base_path=m"], "--model_base_path after -- contradicts --model-base-path"),
    ],
    ids=["stop", "print and stop", "print and detach", "image", "engine", "port", "REST port", "base path"],
)
def test_contradictions_are_usage_errors(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and nothing is started, stopped or printed."""
    monkeypatch.setenv("PATH", "")
    result = serve(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.splitlines()[-1]


def test_what_the_environment_says_contradicts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """SERVING_IMAGE and ENGINE are for the containers that there may be."""
    monkeypatch.setenv("SERVING_IMAGE", "mine")
    monkeypatch.setenv("ENGINE", "podman")
    assert "serving.embedded" in command_line("--backend", "embedded")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--backend", "container"], "docker run "),
        (["--backend", "container", "--engine", "podman"], "podman run "),
        (["--gpu"], "docker run "),
        (["--image", "mine"], "docker run "),
    ],
    ids=["container", "podman", "gpu", "image"],
)
def test_a_command_is_shown_where_it_cannot_run(
    arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only backend that comes into question is shown without an engine, on another architecture."""
    _engine(monkeypatch, None)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command_line(*arguments).startswith(command)


def test_a_binary_that_is_not_there_is_shown() -> None:
    """It may be on the machine that the line is for."""
    assert command_line("--backend", "binary").startswith("tensorflow_model_server --port=8500 ")


def test_showing_a_command_leaves_a_running_servers_configuration_alone(tmp_path: Path) -> None:
    """The server reads it again every few seconds: another base path in it would unload the model."""
    models_file = tmp_path / "state/fashion-serving/8500/config/models.config"
    models_file.parent.mkdir(parents=True)
    models_file.write_text("of the server that runs")
    shutil.copytree(KITCHEN, tmp_path / "other")
    command_line("--backend", "embedded", "--model-base-path", "other")
    assert models_file.read_text() == "of the server that runs"


def test_without_an_engine_auto_takes_the_embedded_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the choice tells why not the others."""
    _engine(monkeypatch, None)
    options, reason = choose.choose("auto", ServeOptions())
    assert options.backend == "embedded"
    assert reason == (
        "no container engine: docker is not on the PATH, podman is not on the PATH; "
        "tensorflow_model_server is not on the PATH; TensorFlow is installed"
    )


def test_without_tensorflow_the_advice_is_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout its own path: the package is on no index."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = serve("--backend", "embedded")
    install = f"pip install -e '{ROOT}[embedded]'"
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: fashion serve needs the extra [embedded], or [light] without TensorFlow: {install}\n",
    )


def test_without_tensorflow_litert_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same backend."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "ai_edge_litert" else None)
    _engine(monkeypatch, None)
    options, reason = choose.choose("auto", ServeOptions())
    assert options.backend == "embedded"
    assert reason.endswith("; LiteRT is installed")


def test_on_arm_auto_leaves_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no official image for it; one's own image is taken."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(choose, "has_image", lambda *_: True)
    assert choose.choose("auto", ServeOptions())[1].startswith("TF Serving's image is for amd64 only")
    assert choose.choose("auto", ServeOptions(image="mine"))[0].backend == "container"


def test_an_image_that_cannot_be_fetched_is_a_reason_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto falls back; asked for by name, it is an error."""

    def unreachable(engine: str, image: str) -> None:
        raise BackendUnavailableError(f"{image} could not be fetched by {engine}: no route")

    monkeypatch.setattr(choose, "has_image", lambda *_: False)
    monkeypatch.setattr(choose, "pull", unreachable)
    assert choose.choose("auto", ServeOptions())[0].backend == "embedded"
    result = serve("--backend", "container", "--port=0", "--rest-port=0")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: tensorflow/serving:2.21.0 could not be fetched by docker: no route\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "65536 is not in the range 0<=x<=65535."),
        (["--rest-port", "-1"], "-1 is not in the range 0<=x<=65535."),
        (["--wait", "-0.5"], "-0.5 is not in the range x>=0."),
        (["--label", "=3"], "=3: expected LABEL=VERSION, such as stable=3"),
        (["--label", "stable=-3"], "stable=-3: expected LABEL=VERSION, such as stable=3"),
        (["--backend", "other"], "'other' is not one of 'auto', 'container', 'binary', 'embedded'."),
        (["--engine", "other"], "'other' is not one of 'docker', 'podman'."),
        (["--pull-to", "labels"], "Directory 'labels' is a file."),
        *(
            ([option, "models"], "File 'models' is a directory.")
            for option in ("--require-signature", "--tls-cert", "--tls-key", "--tls-client-ca", "--token-file")
        ),
    ],
)
def test_values_that_cannot_be(arguments: list[str], message: str) -> None:
    """They are told with what can."""
    Path("labels").touch()
    result = serve("--print-command", *arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(message)


def test_the_help_says_what_is_taken_unless_it_is_said_otherwise() -> None:
    """Of every option that takes a value, in its words."""
    result = CliRunner().invoke(fashion, ["serve", "--help"], terminal_width=300)
    options = re.findall(r"^  (--[\w-]+)(?: (.*?))?(?:  +|$)", result.stdout, re.MULTILINE)
    kinds = {name: kind for name, kind in options if kind}
    assert kinds == {
        "--model-base-path": "DIR|ADDRESS", "--pull-to": "DIR", "--model-name": "TEXT", "--port": "INTEGER RANGE",
        "--rest-port": "INTEGER RANGE", "--host": "TEXT", "--backend": "[auto|container|binary|embedded]",
        "--engine": "[docker|podman]", "--image": "TEXT", "--label": "LABEL=VERSION",
        "--require-signature": "PUBLIC_KEY", "--tls-cert": "FILE", "--tls-key": "FILE", "--tls-client-ca": "FILE",
        "--token-file": "FILE", "--wait": "FLOAT RANGE",
    }  # fmt: skip
    words = " ".join(result.stdout.split())
    assert re.findall(r"\[default: (.*?)\](?: |$)", words) == [
        "models/fashion_mnist", "(the user's cache)", "(the last part of --model-base-path)", "8500; 0<=x<=65535",
        "8501; 0<=x<=65535", "127.0.0.1", "auto", "tensorflow/serving:2.21.0", "120; x>=0",
    ]  # fmt: skip
    assert words.endswith(
        "Example: fashion serve --rest-port 0 fashion serve --backend container --detach fashion serve --stop "
        "fashion serve --print-command -- --rest_api_enable_cors_support"
    )


def test_values_at_their_edges() -> None:
    """Ports, no time to wait, a label of version 0 that is there."""
    shutil.copytree("models/fashion_mnist/1", "models/fashion_mnist/0")
    line = command_line(
        "--backend", "embedded", "--port", "65535", "--rest-port", "65534", "--wait", "0", "--label", "old=0"
    )
    assert "--port=65535 --rest_api_port=65534" in line


def test_stopping_looks_at_no_model(tmp_path: Path) -> None:
    """Wherever it was from."""
    result = serve("--stop", "--port", "9", "--pull-to", str(tmp_path), "--model-base-path", "none")
    assert result.exit_code == 1
    assert "no server was started with --detach on port 9" in result.stderr


def test_a_port_that_is_taken_is_named() -> None:
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = serve("--backend", "embedded", "--port", str(port), "--rest-port=0")
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: 127.0.0.1:{port} cannot be listened on: Address already in use. "
        "--port takes another one, or 0 for a free one; `fashion serve --stop` ends what --detach started\n"
    )


def test_a_model_that_the_containers_user_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that mends it."""
    monkeypatch.setattr(choose, "has_image", lambda *_: True)
    (tmp_path / "models/fashion_mnist/2/saved_model.pb").chmod(0o600)
    result = serve("--backend", "container", "--port=0", "--rest-port=0")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: models/fashion_mnist/2/saved_model.pb cannot be read by the container's user (UID 1000): "
        "chmod -R a+rX models/fashion_mnist\n"
    )


@pytest.mark.parametrize("path", ["models/fashion_mnist", "models/fashion_mnist/2", "models/fashion_mnist/2/variables"])
@pytest.mark.parametrize(("mode", "is_enough"), [(0o754, False), (0o751, False), (0o705, True)])
def test_a_directory_that_the_containers_user_may_list_but_not_enter_is_named(
    tmp_path: Path, path: str, mode: int, is_enough: bool
) -> None:
    """Others need both bits, r and x; the owner's and the group's do not count."""
    base = Path("models/fashion_mnist")
    (tmp_path / path).chmod(mode)
    if is_enough:
        check_readable(base, base / "2")
        return
    with pytest.raises(ServeUsageError, match=rf"^{path} cannot be read by the container's user \(UID 1000\): chmod"):
        check_readable(base, base / "2")


def test_the_image_that_is_asked_for_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option before the variable, and by that before the official one; with --gpu too."""
    monkeypatch.setenv("SERVING_IMAGE", "registry/variable:1")
    asked = ("--backend", "container", "--image", "registry/option:2")
    assert " registry/option:2 --model_config_file=" in command_line(*asked)
    assert " registry/option:2 --model_config_file=" in command_line(*asked, "--gpu")
    assert " registry/variable:1 --model" in command_line("--backend", "container")


def test_a_version_without_a_model_is_named(tmp_path: Path) -> None:
    """TF Serving would try it again and again, with the ports closed."""
    (tmp_path / "models/fashion_mnist/3").mkdir()
    result = serve("--backend", "embedded")
    assert result.exit_code == 2
    assert "models/fashion_mnist/3 holds neither saved_model.pb nor model.tflite" in result.stderr


def test_stopping_what_does_not_run_is_an_error() -> None:
    """It says which port, and how to name another."""
    result = serve("--stop", "--port", "9")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: no server was started with --detach on port 9: `fashion serve --stop --port N` for another one\n"
    )


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """These shell scripts alone are on the PATH."""
    directory.mkdir()
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


@pytest.mark.parametrize(
    ("scripts", "wanted", "found"),
    [
        ({"docker": "exit 0", "podman": "exit 0"}, None, "docker"),
        ({"docker": "exit 1", "podman": "exit 0"}, None, "podman"),
        ({"docker": "exit 0", "podman": '[ "$*" = info ]'}, "podman", "podman"),
        (
            {"docker": "exit 1"}, None,
            "docker is installed but does not run (`docker info` fails), podman is not on the PATH",
        ),
        ({"podman": "exit 0"}, "docker", "docker is not on the PATH"),
    ],
)  # fmt: skip
def test_the_engine_that_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scripts: dict[str, str],
    wanted: str | None,
    found: str,
) -> None:
    """docker before podman; without one each is told why. What they print is nobody's news."""
    programs(tmp_path / "bin", monkeypatch, **{name: f"echo loud; {script}" for name, script in scripts.items()})
    if found in choose.ENGINES:
        assert find_engine(wanted) == found
        assert capfd.readouterr() == ("", "")
        return
    with pytest.raises(BackendUnavailableError) as raised:
        find_engine(wanted)
    assert (str(raised.value), raised.value.exit_code) == (f"no container engine: {found}", 2)
    assert capfd.readouterr() == ("", "")


def test_an_image_is_fetched_where_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its engine, whose last line says what went wrong."""
    refusal = "echo first >&2; echo no route >&2; exit 3"
    script = f'case "$*" in "image inspect here") exit 0;; "pull good") exit 0;; *) {refusal};; esac'
    programs(tmp_path / "bin", monkeypatch, docker=script)
    assert [choose.has_image("docker", image) for image in ("here", "good")] == [True, False]
    choose.pull("docker", "good")
    with pytest.raises(BackendUnavailableError, match=r"^bad could not be fetched by docker: no route$"):
        choose.pull("docker", "bad")


def test_which_engine_has_an_init_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docker; podman where catatonit is, on Linux; elsewhere podman runs in a machine that has it."""
    monkeypatch.undo()
    monkeypatch.setattr(choose, "_HELPERS", (str(tmp_path / "helpers"),))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    programs(tmp_path / "bin", monkeypatch)
    assert (choose.has_init("docker"), choose.has_init("podman")) == (True, False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert choose.has_init("podman")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    programs(tmp_path / "helpers", monkeypatch, catatonit="exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert choose.has_init("podman")


def test_why_a_backend_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """For auto; one that was named needs no reason. What only embedded can do, it does."""
    fetched: list[tuple[str, str]] = []
    monkeypatch.setattr(choose, "has_image", lambda *_: False)
    monkeypatch.setattr(choose, "pull", lambda *image: fetched.append(image))
    options, reason = choose.choose("auto", ServeOptions())
    assert (options.backend, options.engine, options.init) == ("container", "docker", True)
    assert reason == "docker runs tensorflow/serving:2.21.0"
    assert fetched == [("docker", "tensorflow/serving:2.21.0")]
    assert choose.choose("container", ServeOptions(), only_show=True)[1] == ""
    assert len(fetched) == 1
    for only in (ServeOptions(token_file=Path("t")), ServeOptions(tls_client_ca=Path("c"))):
        assert choose.choose("auto", only)[0].backend == "embedded"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    options, reason = choose.choose("binary", ServeOptions())
    assert (options.backend, options.engine, reason) == ("binary", "", "")
    _engine(monkeypatch, None)
    options, reason = choose.choose("auto", ServeOptions())
    assert options.backend == "binary"
    assert reason.endswith("; /usr/bin/tensorflow_model_server is there")
    # Who asks for a GPU or an image wants a container and nothing else.
    for wanted in (ServeOptions(gpu=True), ServeOptions(image="mine")):
        with pytest.raises(BackendUnavailableError, match=r"^no container engine: [^;]*$"):
            choose.choose("auto", wanted)
    with pytest.raises(ServeUsageError) as raised:
        choose.choose("embedded", ServeOptions(gpu=True))
    assert str(raised.value) == (
        "--gpu chooses TF Serving's GPU image: it needs --backend container, not embedded. The others use a GPU by "
        "themselves where TensorFlow sees one"
    )


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::", "[::1]"),
        ("fe80::1", "[fe80::1]"),
        ("example.org", "example.org"),
    ],
)
def test_where_a_client_finds_the_server(host: str, reachable: str) -> None:
    """On this machine, if it listens on all addresses; the model's name as a URL has it."""
    options = ServeOptions(host=host, model_name="a/b c")
    assert options.grpc_url == f"grpc://{reachable}:8500"
    assert options.rest_origin == f"http://{reachable}:8501"
    assert options.status_url == f"http://{reachable}:8501/v1/models/a%2Fb%20c"


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ((), None),
        (("--port=1",), "1"),
        (("-port=1",), "1"),
        (("--port", "1"), "1"),
        (("--port",), ""),
        (("--port=1", "--port=2"), "2"),
        (("--port=",), ""),
        (("--report=1", "port=1", "--port_=1"), None),
        (("---port=1",), None),
    ],
)
def test_the_value_of_a_servers_flag(flags: tuple[str, ...], value: str | None) -> None:
    """With one dash or two, behind = or by itself; the last one counts."""
    assert ServeOptions(server_flags=flags).server_flag("port") == value


def test_a_detached_container_remains_for_its_log() -> None:
    """Without an init process where its engine has none; stopping it is bounded."""
    options = ServeOptions(engine="podman", init=False, gpu=True, image="mine", port=9)
    command = container(options, detach=True)
    assert command[:4] == ["podman", "run", "--detach", "--name=fashion-serving-9"]
    assert "--rm" not in command
    assert "--device=nvidia.com/gpu=all" in command
    assert stop_container("podman", "fashion-serving-9") == ["podman", "stop", "--time=10", "fashion-serving-9"]
    verbose = ServeOptions(backend="embedded", verbose=True)
    assert embedded(verbose)[len(module_command("serving.embedded")) :][:2] == ["--host=127.0.0.1", "--verbose"]


def test_ports_are_chosen_and_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two different free ones for 0; one that is asked for stays what it is."""
    chosen = with_free_ports(ServeOptions(port=0, rest_port=0))
    assert 0 < chosen.port != chosen.rest_port > 0
    again = with_free_ports(chosen)
    assert (again.port, again.rest_port) == (chosen.port, chosen.rest_port)
    with pytest.raises(ServeUsageError, match=r"^--port and --rest-port are both 9: give each its own$"):
        with_free_ports(ServeOptions(port=9, rest_port=9))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            ServeUsageError, match=rf"^127\.0\.0\.1:{port} cannot .* --rest-port takes another one, or 0 "
        ):
            with_free_ports(ServeOptions(port=0, rest_port=port))

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServeUsageError) as raised:
        with_free_ports(ServeOptions(host="nowhere", port=0, rest_port=0))
    assert str(raised.value) == (
        "nowhere:0 cannot be listened on: Name or service not known. --host takes an address of this machine; "
        "`fashion serve --stop` ends what --detach started"
    )


def test_connections_that_linger_from_the_last_server_are_no_hindrance() -> None:
    """Its port is free for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            connection, _ = listener.accept()
            # Whoever closes first keeps the port for a while.
            connection.close()
            assert client.recv(1) == b""
    assert with_free_ports(ServeOptions(port=port, rest_port=0)).port == port


def test_what_can_be_served_is_told(tmp_path: Path) -> None:
    """What is wrong with a base path, with what writes a version where there is none."""
    for path, text in (
        (
            "none",
            "Could not find base path none: create it, or correct the path. `fashion export` writes the first version",
        ),
        ("empty", "No versions of m under empty: expected numeric folders such as empty/1"),
        ("one", "one/7 holds neither saved_model.pb nor model.tflite: remove the directory, or export again"),
    ):
        if path != "none":
            Path(path).mkdir()
        if path == "one":
            Path("one/7").mkdir()
        with pytest.raises(ServeUsageError) as raised:
            versions_to_serve(ServeOptions(model_name="m", model_base_path=Path(path)), Offer())
        assert str(raised.value) == text
    (tmp_path / "one/7/model.tflite").touch()
    assert versions_to_serve(ServeOptions(model_base_path=Path("one")), Offer()) == {7: Path("one/7")}


def test_labels_that_are_served() -> None:
    """Those of the base path, and those that are given now; each must name a version that is there."""
    options = ServeOptions()
    assert served_labels(options, {}, [1, 2]) == {"stable": 1, "canary": 2}
    assert served_labels(options, {"blue": 1, "stable": 2}, [1, 2]) == {"stable": 2, "canary": 2, "blue": 1}
    with pytest.raises(ServeUsageError) as raised:
        served_labels(options, {"blue": 9}, [2, 1])
    assert str(raised.value) == (
        "--label blue=9: version 9 is not there, only these are: 1, 2. `fashion label blue=N` moves a label"
    )


def test_a_configuration_that_has_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the system's, with what names another."""
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match=rf"^the server's configuration cannot be written to {tmp_path}/file/c: "):
        with_config(ServeOptions(), {"models.config": ""}, tmp_path / "file/c")

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with temporary_config(ServeOptions(), {"models.config": "text"}) as configured:
        assert (configured.config_dir / "models.config").read_text() == "text"
        assert configured.config_dir.name == "config"
    assert not configured.config_dir.exists()
    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    text = r"^the server's configuration has no place: No space left on device\. TMPDIR names one$"
    with pytest.raises(LaunchError, match=text), temporary_config(ServeOptions(), {}):
        pass


def test_an_engine_that_hangs_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is waited for, for a while."""
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\nexec sleep 60\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(choose, "_PROBE_SECONDS", 0.1)
    with pytest.raises(BackendUnavailableError, match="docker is installed but does not run"):
        find_engine("docker")
