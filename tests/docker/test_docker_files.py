"""Dockerfiles, compose, Prometheus and Grafana: they agree with each other, with the server and with what is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from serving.apis.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from serving.embedded.observe import metrics
from serving.launch.backends import RESTRICTIONS, TF_SERVING_VERSION, config_flags

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = {path.name.partition(".")[0]: path.read_text() for path in DOCKER.glob("*.Dockerfile")}
# What light.Dockerfile takes as REQUIREMENTS.
LOCKS = ("light-image", "score", "score-ray", "pull")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVERS = ("serving", "serving-gpu", "embedded", "light")


def test_the_configuration_files_parse_and_say_what_the_images_need() -> None:
    """Paths of the images, the labels of the first two versions, a metrics path."""
    models = text_format.Parse((ROOT / "serving/config/models.config").read_text(), ModelServerConfig())
    (model,) = models.model_config_list.config
    assert (model.name, model.base_path) == ("fashion_mnist", "/models/fashion_mnist")
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}
    assert model.model_version_policy.latest.num_versions == 2
    assert text_format.Parse((ROOT / "serving/config/batching.config").read_text(), BatchingParameters())
    monitoring = text_format.Parse((ROOT / "serving/config/monitoring.config").read_text(), MonitoringConfig())
    assert monitoring.prometheus_config.enable


@pytest.mark.parametrize("name", ["client", "embedded", "light"])
def test_images_are_made_of_every_package(name: str) -> None:
    """Of those that the wheel has: it cannot be built without one."""
    wheel = re.search(r"^packages = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert wheel
    packages = json.loads(wheel[1])
    assert set(re.findall(r"^COPY (\w+)/ /src/\1/$", DOCKERFILES[name], re.MULTILINE)) == set(packages)
    assert {f"!{package}/" for package in packages} <= set((ROOT / ".dockerignore").read_text().splitlines())


@pytest.mark.parametrize("name", ["serving", "embedded", "light"])
def test_server_images_have_the_same_contract(name: str) -> None:
    """Ports, user, environment, health check, entry point and the flags of every backend."""
    text = DOCKERFILES[name]
    command = json.loads(re.search(r"^CMD (\[.*?\])", text.replace("\\\n", ""), re.MULTILINE)[1])  # type: ignore[index]
    assert command == config_flags("/config")
    for line in (
        "EXPOSE 8500 8501",
        "USER 1000:1000",
        "STOPSIGNAL SIGTERM",
        'ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]',
        "COPY serving/config/ /config/",
        "COPY models/fashion_mnist/ /models/fashion_mnist/",
    ):
        assert f"\n{line}\n" in text, line
    assert "MODEL_NAME=fashion_mnist MODEL_BASE_PATH=/models\n" in text
    assert 'CMD ["/usr/local/bin/healthcheck.sh"]' in text


def test_the_server_image_is_built_on_the_version_that_is_run() -> None:
    """TF Serving's version stands in the Dockerfile and in the command line."""
    assert f"ARG TF_SERVING_VERSION={TF_SERVING_VERSION}\n" in DOCKERFILES["serving"]


def test_what_dockerfiles_copy_is_there_and_let_through() -> None:
    """.dockerignore begins with everything, and lets each copied path through again."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!").rstrip("/") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for text in DOCKERFILES.values():
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
            words = [word.rstrip("/") for word in line.split()[:-1] if not word.startswith("--")]
            for word in words:
                copied.update(word.replace("${REQUIREMENTS}", name) for name in LOCKS)
    assert {path for path in copied if not path.startswith("models/")} - {"serving/config"} <= allowed
    assert {path.partition("/")[0] if path.startswith("models/") else path for path in allowed} == allowed
    for path in allowed - {"models"}:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("script", ["entrypoint.sh", "healthcheck.sh", "tensorflow_model_server"])
def test_scripts_are_programs_that_bash_can_read(script: str) -> None:
    """Executable, with correct syntax."""
    path = DOCKER / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["/bin/bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", SERVERS)
def test_compose_restricts_servers_as_the_command_line_does(name: str) -> None:
    """The same user, file system and capabilities; ports of this machine only."""
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert [f"--tmpfs={path}" for path in service["tmpfs"]] == [RESTRICTIONS[1]]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", f"--user={service['user']}"} < set(RESTRICTIONS)
    assert service["init"] is True
    assert [port.rpartition(":")[2] for port in service["ports"]] == ["8500", "8501"]
    assert service["volumes"] == ["../models/fashion_mnist:/models/fashion_mnist:ro", "../serving/config:/config:ro"]


def test_compose_bounds_memory_and_processes() -> None:
    """Of every service: none takes the machine down with it."""
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert 0 < service["pids_limit"] <= 512, name


def test_compose_publishes_on_loopback_only() -> None:
    """Every port of every service."""
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_names_files_and_profiles_that_are_there() -> None:
    """Dockerfiles, mounted files, and the profiles of the documentation."""
    profiles = {profile for service in COMPOSE["services"].values() for profile in service.get("profiles", [])}
    assert profiles == {"gpu", "embedded", "light", "observability"}
    assert "profiles" not in COMPOSE["services"]["serving"]
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists() or source == "../models/fashion_mnist", source
            else:
                assert source in COMPOSE["volumes"]


def test_prometheus_scrapes_the_servers_where_their_metrics_are() -> None:
    """The alias that compose gives them, the REST port, the path of monitoring.config."""
    (job,) = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    monitoring = text_format.Parse((ROOT / "serving/config/monitoring.config").read_text(), MonitoringConfig())
    assert job["metrics_path"] == monitoring.prometheus_config.path
    assert discovery["port"] == 8501
    for name in SERVERS:
        assert COMPOSE["services"][name]["networks"]["default"]["aliases"] == discovery["names"]


def test_the_dashboard_asks_for_metrics_that_the_server_has() -> None:
    """Every metric of a query is in what the embedded server exposes, but for the one that is TF Serving's alone."""
    dashboard = json.loads((DOCKER / "grafana/dashboards/fashion.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = set(re.findall(r":(?:tensorflow|fashion):[\w:]+", " ".join(queries)))
    exposed = re.findall(r"^# TYPE (\S+) (\w+)$", metrics.Metrics().exposition().decode(), re.MULTILINE)
    names = {f"{name}_bucket" if kind == "histogram" else name for name, kind in exposed}
    assert asked - names == {":tensorflow:cc:saved_model:load_attempt_count"}
    titles = {panel["title"] for panel in dashboard["panels"]}
    assert {
        "Requests",
        "Errors",
        "Latency of requests",
        "Batch size",
        "Versions loaded",
        "Predictions by class",
    } <= titles
    sources = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {sources["datasources"][0]["uid"]}
    providers = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/fashion.yaml").read_text())["providers"]
    assert f"./grafana/dashboards:{providers[0]['options']['path']}:ro" in COMPOSE["services"]["grafana"]["volumes"]


def test_every_command_of_the_operations_page_exists() -> None:
    """`make X` and `fashion X --option` of docs/operations.md, and the files that it names."""
    from client.cli import fashion

    page = (ROOT / "docs/operations.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)|^\$ make ([a-z-]+)", page, re.MULTILINE)):
        assert re.search(rf"^{''.join(target)}:.*## ", makefile, re.MULTILINE), target
    for line in re.findall(r"^\$ fashion (.*)$", page, re.MULTILINE):
        name, *rest = shlex.split(line, comments=True)
        command = fashion.get_command(fashion.make_context("fashion", [], resilient_parsing=True), name)
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest[: rest.index("--") if "--" in rest else None] if word.startswith("--")} <= known
    for path in re.findall(r"`((?:docker|serving/config)/[\w./-]+)`", page):
        assert (ROOT / path).exists(), path
