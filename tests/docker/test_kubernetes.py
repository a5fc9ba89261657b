"""The Kubernetes manifests: against the published schemas, and against what the images and configuration say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format

from delivery.commands.pull import pull
from scoring.commands.score import score
from serving.apis.messages import ModelServerConfig, MonitoringConfig
from serving.embedded.flags import parse
from serving.launch.backends import OFFICIAL_IMAGE, TF_SERVING_VERSION, config_flags
from tests.support.manifests import KUBERNETES, container, read, resources

CONFIG = Path(__file__).parents[2] / "serving/config"
# The embedded server, on TensorFlow and on LiteRT.
EMBEDDED = ("overlays/embedded", "overlays/light")
VARIANTS = pytest.mark.parametrize("variant", ["base", "overlays/gpu", *EMBEDDED])


@VARIANTS
def test_every_resource_fits_the_published_schema(variant: str) -> None:
    """Strictly: a key that Kubernetes does not know is an error."""
    found = resources(KUBERNETES / variant)
    assert sorted(found) == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "Service",
    ]
    for resource in found.values():
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_the_inference_service_fits_what_is_written_down() -> None:
    """KServe publishes no schema on PyPI: tests/docker/kserve.schema.json has the part that is used."""
    schema = json.loads((Path(__file__).parent / "kserve.schema.json").read_text())
    service = read(KUBERNETES / "kserve/inferenceservice.yaml")
    jsonschema.validate(service, schema)
    model = service["spec"]["predictor"]["model"]
    assert model["runtimeVersion"] == TF_SERVING_VERSION
    claim, _, path = model["storageUri"].removeprefix("pvc://").partition("/")
    assert claim == resources(KUBERNETES / "base")["PersistentVolumeClaim"]["metadata"]["name"]
    assert path == "fashion_mnist"


def test_the_canary_that_the_inference_service_shows_fits_too() -> None:
    """Its comment, uncommented: another directory, a share of the requests, no autoscaling of its own."""
    schema = json.loads((Path(__file__).parent / "kserve.schema.json").read_text())
    text = (KUBERNETES / "kserve/inferenceservice.yaml").read_text()
    head, _, comment = text.partition("  # canary:")
    service = yaml.safe_load(head + re.sub(r"^  # ", "  ", f"  # canary:{comment}", flags=re.MULTILINE))
    jsonschema.validate(service, schema)
    [canary] = service["spec"]["canary"]
    stable, candidate = service["spec"]["predictor"]["model"], canary["predictor"]["model"]
    assert candidate["storageUri"] != stable["storageUri"]
    assert all(stable[name] == value for name, value in candidate.items() if name != "storageUri")


@VARIANTS
def test_the_server_gets_the_flags_of_every_backend(variant: str) -> None:
    """Ports, paths and configuration as `fashion serve` gives them."""
    server = container(resources(KUBERNETES / variant)["Deployment"])
    assert server["command"] == ["tensorflow_model_server"]
    own = ["--metrics_port=9090"] if variant in EMBEDDED else []
    assert server["args"] == ["--port=8500", "--rest_api_port=8501", *config_flags("/config"), *own]
    assert [port["containerPort"] for port in server["ports"]] == [8500, 8501, *([9090] if own else [])]


def test_the_images_are_the_ones_that_are_built_and_tested() -> None:
    """The official ones in the version of `fashion serve`, and the embedded server's."""
    images = {
        variant: container(resources(KUBERNETES / variant)["Deployment"])["image"]
        for variant in ("base", "overlays/gpu", *EMBEDDED)
    }
    assert images == {
        "base": OFFICIAL_IMAGE,
        "overlays/gpu": f"{OFFICIAL_IMAGE}-gpu",
        "overlays/embedded": "fashion-embedded:latest",
        "overlays/light": "fashion-light:latest",
    }


@VARIANTS
def test_paths_names_and_probes_agree_with_the_configuration(variant: str) -> None:
    """models.config names the path that is mounted and the model that is probed; monitoring.config what is scraped."""
    deployment = resources(KUBERNETES / variant)["Deployment"]
    server = container(deployment)
    (model,) = text_format.Parse((CONFIG / "models.config").read_text(), ModelServerConfig()).model_config_list.config
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    assert mounts["models"]["mountPath"] == model.base_path
    assert mounts["config"]["mountPath"] == "/config"
    assert mounts["models"]["readOnly"] is mounts["config"]["readOnly"] is True
    metadata, status = f"/v1/models/{model.name}/metadata", f"/v1/models/{model.name}"
    # TensorFlow Serving has no probes of its own.
    paths = ["/readyz", "/readyz", "/healthz"] if variant in EMBEDDED else [metadata, metadata, status]
    for probe, path in zip(("startupProbe", "readinessProbe", "livenessProbe"), paths, strict=True):
        assert server[probe]["httpGet"] == {"path": path, "port": "rest"}
    metrics = text_format.Parse((CONFIG / "monitoring.config").read_text(), MonitoringConfig()).prometheus_config
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == metrics.path
    assert annotations["prometheus.io/port"] == ("9090" if variant in EMBEDDED else "8501")


@VARIANTS
def test_prometheus_reaches_the_port_that_has_the_metrics(variant: str) -> None:
    """And no other; clients reach both APIs."""
    found = resources(KUBERNETES / variant)
    clients, prometheus = found["NetworkPolicy"]["spec"]["ingress"]
    ports = {port["name"]: str(port["containerPort"]) for port in container(found["Deployment"])["ports"]}
    assert [port["port"] for port in clients["ports"]] == ["grpc", "rest"]
    annotations = found["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert [ports[port["port"]] for port in prometheus["ports"]] == [annotations["prometheus.io/port"]]


def test_the_config_map_has_the_three_files() -> None:
    """And is the one that the pods mount."""
    (generator,) = read(CONFIG / "kustomization.yaml")["configMapGenerator"]
    assert sorted(generator["files"]) == sorted(path.name for path in CONFIG.glob("*.config"))
    volumes = resources(KUBERNETES / "base")["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert generator["name"] == next(one["configMap"]["name"] for one in volumes if "configMap" in one)


@VARIANTS
def test_pods_are_restricted(variant: str) -> None:
    """What the Pod Security Standard `restricted` asks for, and a file system that cannot be written."""
    spec = resources(KUBERNETES / variant)["Deployment"]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container({"spec": {"template": {"spec": spec}}})["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_everything_selects_the_same_pods() -> None:
    """Service, budget and network policy by the label that the pods carry; the autoscaler by the Deployment's name."""
    found = resources(KUBERNETES / "base")
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert found["Service"]["spec"]["clusterIP"] == "None"
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", found["Deployment"]["metadata"]["name"])
    assert found["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    assert "cpu" in container(found["Deployment"])["resources"]["requests"]


def test_the_job_that_scores() -> None:
    """It fits Kubernetes' schema, and its command line is one that `fashion score` takes."""
    job = read(KUBERNETES / "score/job.yaml")
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert _options([*container["command"], *container["args"]])["output"] == "/data/scores"


def test_the_ray_job_that_scores() -> None:
    """KubeRay publishes no schema on PyPI: tests/docker/rayjob.schema.json has the part that is used."""
    job = read(KUBERNETES / "score/rayjob.yaml")
    jsonschema.validate(job, json.loads((Path(__file__).parent / "rayjob.schema.json").read_text()))
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray_version()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    options = _options(shlex.split(job["spec"]["entrypoint"]))
    assert (options["engine"], options["ray_address"], options["workers"]) == ("ray", "auto", (2, 100))


def ray_version() -> str:
    """Of the image: driver and cluster must have the same."""
    locked = (Path(__file__).parents[2] / "requirements/score-ray.txt").read_text()
    match = re.search(r"^ray==(\S+)", locked, re.MULTILINE)
    assert match is not None
    return match[1]


def _options(command: list[str]) -> dict[str, Any]:
    """What `fashion score` reads of a command line."""
    assert command[:2] == ["fashion", "score"]
    with score.make_context("score", command[2:]) as context:
        return context.params


def test_tokens_and_tls_come_from_a_secret() -> None:
    """Two flags more, probes over HTTPS, and all else is the light overlay."""
    found, light = resources(KUBERNETES / "overlays/secured"), resources(KUBERNETES / "overlays/light")
    kubernetes_validate.validate(found["Deployment"], kubernetes_validate.latest_version(), strict=True)
    server, plain = container(found["Deployment"]), container(light["Deployment"])
    flags = parse(server["args"])
    assert server["args"][: len(plain["args"])] == plain["args"]
    mount = server["volumeMounts"].pop()
    paths = {Path(flags.token_file), Path(flags.ssl_config_file)}
    assert {path.parent for path in paths} == {Path(mount["mountPath"])}
    [volume] = [each for each in found["Deployment"]["spec"]["template"]["spec"]["volumes"] if each["name"] == "access"]
    text = (KUBERNETES / "overlays/secured/kustomization.yaml").read_text()
    files = "".join(f" --from-file={path.name}" for path in (Path(flags.token_file), Path(flags.ssl_config_file)))
    assert f"create secret generic {volume['secret']['secretName']}{files}\n" in text
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"].pop("scheme") == "HTTPS"
    assert {**server, "args": []} == {**plain, "args": []}
    assert {kind: each for kind, each in found.items() if kind != "Deployment"} == {
        kind: each for kind, each in light.items() if kind != "Deployment"
    }


def test_models_are_pulled_before_the_server_starts_and_beside_it() -> None:
    """Into a volume of the pod's own, which the server reads as ever: the rest is the light overlay."""
    found, light = resources(KUBERNETES / "overlays/pull"), resources(KUBERNETES / "overlays/light")
    assert sorted(found) == sorted(light.keys() - {"PersistentVolumeClaim"})
    for resource in found.values():
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    server = container(found["Deployment"])
    assert server == container(light["Deployment"])
    first, sidecar = pod["initContainers"]
    assert ("restartPolicy" not in first, sidecar["restartPolicy"]) == (True, "Always")
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "models"]
    assert volume == {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}
    kustomization = read(KUBERNETES / "overlays/pull/kustomization.yaml")
    [generated] = kustomization["configMapGenerator"]
    [(variable, _, address)] = [literal.partition("=") for literal in generated["literals"]]
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    for each in (first, sidecar):
        assert each["image"] == "fashion-pull:latest"
        assert each["securityContext"] == server["securityContext"]
        assert each["envFrom"][0] == {"configMapRef": {"name": generated["name"]}}
        assert each["command"][:3] == ["fashion", "pull", f"$({variable})"]
        context = pull.make_context("pull", [address, *each["command"][3:]])
        assert context.params["watch"] is (each is sidecar)
        # Where the server reads: the model's directory of the same volume.
        assert {"name": "models", "mountPath": str(context.params["to"])} in each["volumeMounts"]
        assert mounts["models"]["subPath"] == address.rpartition("/")[2]
    [egress] = found["NetworkPolicy"]["spec"]["egress"]
    assert {port["port"] for port in egress["ports"]} == {53, 443}
