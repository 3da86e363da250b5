"""The Kubernetes manifest: held to Kubernetes' own schemas, to KubeRay's, and to what the images are.

Kubernetes' schemas come with the package kubernetes-validate. KubeRay's lie in the cluster that it is installed in:
`kubectl get crd rayclusters.ray.io -o yaml > rayclusters.yaml`, and `DUBMILL_KUBERAY_CRD=rayclusters.yaml` checks against that, every field.
Without it the fields of KubeRay's own, which are few, are held to the names and types that version 1.7 has.
"""

import importlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docker" / "local"))
environments = importlib.import_module("environments")  # a plain script: the folder `docker` is no package
MANIFEST = ROOT / "docker" / "kubernetes" / "ray-cluster.yaml"
KUBERNETES = "1.34"
TEXT, NUMBER, YES_OR_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
START = {"type": "object", "additionalProperties": TEXT}  # a bare number would be refused: Ray's parameters are strings


def fields(required: tuple[str, ...] = (), **properties: object) -> dict[str, object]:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


KUBERAY_1_7 = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=YES_OR_NO,
    authOptions=fields(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    autoscalerOptions=fields(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=NUMBER, resources={"type": "object"}),
    headGroupSpec=fields(("template",), rayStartParams=START, template={"type": "object"}),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ("groupName", "maxReplicas", "minReplicas", "template"),
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams=START,
            template={"type": "object"},
        ),
    },
)
"""What a RayCluster's `spec` may hold, of the fields that are used here."""


@pytest.fixture(scope="module")
def manifest() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def cluster(manifest: list[dict[str, Any]]) -> dict[str, Any]:
    return next(part for part in manifest if part["kind"] == "RayCluster")


def pods(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod templates of head and workers."""
    yield cluster["spec"]["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["spec"]["workerGroupSpecs"])


def test_what_is_kubernetes_own_fits_its_schemas(manifest: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    templates = [{"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "of-a-group"}, "template": pod} for pod in pods(cluster)]
    for part in [*(part for part in manifest if part is not cluster), *templates]:
        kubernetes_validate.validate(part, KUBERNETES, strict=True)


def test_a_misspelt_field_of_a_pod_would_be_found(cluster: dict[str, Any]) -> None:
    pod = deepcopy(next(pods(cluster)))
    pod["spec"]["containers"][0]["volumeMount"] = pod["spec"]["containers"][0].pop("volumeMounts")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": pod}, KUBERNETES, strict=True)


def test_what_is_kuberays_own_has_the_fields_of_its_version(cluster: dict[str, Any]) -> None:
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    jsonschema.validate(cluster["spec"], KUBERAY_1_7)


def test_a_number_where_ray_wants_text_would_be_found(cluster: dict[str, Any]) -> None:
    spec = deepcopy(cluster["spec"])
    spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, KUBERAY_1_7)


def test_the_whole_fits_the_schema_of_the_kuberay_that_is_installed(cluster: dict[str, Any]) -> None:
    location = os.environ.get("DUBMILL_KUBERAY_CRD")
    if not location:
        pytest.skip("DUBMILL_KUBERAY_CRD names no file of `kubectl get crd rayclusters.ray.io -o yaml`")
    versions = yaml.safe_load(Path(location).read_text(encoding="utf-8"))["spec"]["versions"]
    schema = next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
    jsonschema.validate(cluster["spec"], closed(schema["properties"]["spec"]))


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, which the API server would drop in silence, and with Kubernetes' "number or text" as that."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items() if not (name == "type" and schema.get("x-kubernetes-int-or-string"))}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return inner | ({"additionalProperties": False} if "properties" in schema and isinstance(schema["properties"], dict) and not open_ended else {})


def test_ray_and_the_image_are_of_the_versions_that_the_lock_has(cluster: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ray[default,data,train]=={cluster['spec']['rayVersion']}" in project["optional-dependencies"]["data"]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods(cluster)} == {f"dubmill-data:{project['version']}"}


def test_pods_run_as_the_user_of_the_image_with_no_more_rights(cluster: dict[str, Any]) -> None:
    user = int(re.findall(r"^USER (\d+)$", (ROOT / "docker" / "data.Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[-1])
    for pod in pods(cluster):
        assert pod["spec"]["securityContext"]["runAsUser"] == pod["spec"]["securityContext"]["fsGroup"] == user
        assert pod["spec"]["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_every_volume_that_is_mounted_is_there_and_the_claim_too(manifest: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    claims = {part["metadata"]["name"] for part in manifest if part["kind"] == "PersistentVolumeClaim"}
    for pod in pods(cluster):
        mounted = {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" in volume} == claims


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def values(page: str) -> dict[str, Any]:
    """What the page gives Airflow's chart."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    given: dict[str, Any] = yaml.safe_load(block)
    return given


def test_airflow_has_the_settings_with_which_it_survives_on_one_machine(values: dict[str, Any]) -> None:
    environment = {variable["name"]: variable["value"] for variable in values["env"]}
    assert environments.DURABILITY.items() <= environment.items()
    assert environment[environments.DEPLOYMENT_VARIABLE]
    assert all(isinstance(value, str) for value in environment.values()), "Kubernetes takes texts alone"


def test_who_may_sign_in_is_known_to_the_image_and_to_a_file_that_airflow_can_write(values: dict[str, Any]) -> None:
    assert "apache-airflow-providers-fab" not in (ROOT / "locks" / "control.txt").read_text(encoding="utf-8")
    assert values["createUserJob"] == {"enabled": False}
    core, server = values["config"]["core"], values["apiServer"]
    assert core["auth_manager"].endswith(".SimpleAuthManager")
    file = Path(core["simple_auth_manager_passwords_file"])
    (mount,) = server["extraVolumeMounts"]
    assert mount["mountPath"] == str(file.parent)
    assert {volume["name"]: "emptyDir" in volume for volume in server["extraVolumes"]}[mount["name"]]
    (copies,) = server["extraInitContainers"]
    assert copies["command"][-1] == str(file)
    assert copies["image"] == f"{values['images']['airflow']['repository']}:{values['images']['airflow']['tag']}"
    pod = {"spec": {"initContainers": [copies], "containers": [{"name": "api-server", "volumeMounts": [mount]}], "volumes": server["extraVolumes"]}}
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "api-server"}, "template": pod}
    kubernetes_validate.validate(template, KUBERNETES, strict=True)


def test_the_scheduler_is_asked_whether_it_is_a_deployment_or_a_stateful_set(page: str) -> None:
    """The chart makes the latter of it with a LocalExecutor, unless persistence is off."""
    assert "--selector=component=scheduler" in page
    assert not re.search(r"(deploy|deployment|statefulset|sts)/\S*scheduler", page)


def test_neither_ray_nor_airflow_reports_on_its_use(values: dict[str, Any], cluster: dict[str, Any]) -> None:
    assert {"name": "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "value": "False"} in values["env"]
    for pod in pods(cluster):
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in pod["spec"]["containers"][0]["env"]


def test_the_job_api_is_reached_with_a_token_by_few(manifest: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    policy = next(part for part in manifest if part["kind"] == "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert all(rule.get("from") for rule in policy["ingress"])
    ports = {
        source["podSelector"]["matchLabels"].get("app.kubernetes.io/name", "airflow"): {port["port"] for port in rule["ports"]}
        for rule in policy["ingress"]
        for source in rule["from"]
        if "ports" in rule
    }
    assert ports == {"airflow": {8265}, "kuberay-operator": {8265}, "prometheus": {8080, 8265}}, "Prometheus asks the head who has metrics"
    assert not any(part["kind"] == "Secret" for part in manifest)
