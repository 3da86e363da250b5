"""The Dockerfiles and the compose file: parsed, linted, and held to what DESIGN asks of them."""

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from botocore.exceptions import EndpointConnectionError

from schemas.settings import (
    BulkDubSettings,
    EvaluateSettings,
    IngestSettings,
    LandmarkGeneratorTraining,
    MaintainSettings,
    ModelsSettings,
    ReleaseSettings,
    RendererTraining,
    ReviewSettings,
    check_settings,
    read_settings,
)

DOCKER = Path(__file__).parents[2] / "docker"
sys.path.insert(0, str(DOCKER / "local"))
environments = importlib.import_module("environments")  # a plain script: the folder `docker` is no package
pools = importlib.import_module("pools")
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
LOOPBACK_PORT = re.compile(r"127\.0\.0\.1:\d+:\d+")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def test_there_is_an_image_for_each_environment() -> None:
    assert [path.stem for path in DOCKERFILES] == ["control", "data"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_has_no_fault_that_the_linter_knows(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint is in the data environment's lock"
    linted = subprocess.run([hadolint, str(path)], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_made_by_the_same_script_and_locks_and_runs_as_nobody_special(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"locks/install.sh {path.stem} " in text
    assert [line for line in text.splitlines() if line.startswith("USER")][-1] == "USER 50000"
    assert "schemas ./schemas" in text


def test_what_an_image_copies_is_there() -> None:
    for path in DOCKERFILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("COPY"):
                sources = [word for word in line.split()[1:-1] if not word.startswith("--")]
                assert all((DOCKER.parent / source).exists() for source in sources), line


def test_services_depend_on_services_that_are_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {
        "postgres",
        "s3",
        "ray-head",
        "ray-worker",
        "ray-worker-cpu",
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
    } <= set(services)
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            assert place in compose["volumes"] or (DOCKER / place).is_dir(), name
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name


def test_every_image_is_built_here_or_pinned(compose: dict[str, Any]) -> None:
    built = {service["image"]: service["build"] for service in compose["services"].values() if "build" in service}
    for build in built.values():
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
    for service in compose["services"].values():
        assert service["image"] in built or ":" in service["image"]


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(LOOPBACK_PORT.fullmatch(port) for port in published)


def test_airflow_survives_what_it_survives_on_one_machine(compose: dict[str, Any]) -> None:
    airflow = [service["environment"] for service in compose["services"].values() if service["image"] == "dubmill-control"]
    assert len(airflow) == 5
    for environment in airflow:
        assert environments.DURABILITY.items() <= environment.items()
        assert environment[environments.DEPLOYMENT_VARIABLE]


DAG_IDS = {path.stem for path in (DOCKER / "settings").glob("*.yaml")} - {"publish"} | {"reconcile_jobs"}
NOT_UNDER_COMPOSE = {"DUBMILL_DATABASE_URL", "DUBMILL_DATABASE_URL_FILE", "DUBMILL_WORKING_DIR"}
"""Of `make up`, which has no other database, and of development."""


def test_a_variable_that_the_pages_or_the_dags_name_can_be_set_for_compose(compose: dict[str, Any]) -> None:
    root = DOCKER.parent
    pages = [root / "README.md", root / "docs" / "operations.md", *(root / "dags").rglob("*.py")]
    named = {name for page in pages for name in re.findall(r"DUBMILL_[A-Z_]+", page.read_text(encoding="utf-8"))} - NOT_UNDER_COMPOSE
    each = {f"{name}{dag_id.upper()}" for name in named if name.endswith("_") for dag_id in DAG_IDS}
    passed = compose["services"]["ray-head"]["environment"] | compose["services"]["airflow-scheduler"]["environment"]
    assert {name for name in named | each if not name.endswith("_") and not str(passed.get(name, "")).startswith(f"${{{name}:-")} == set()


def test_neither_ray_nor_airflow_reports_on_its_use(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if service["image"] == "dubmill-control":
            assert service["environment"]["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
        if service["image"] == "dubmill-data":
            assert service["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"


def test_who_must_be_able_to_read_the_token_is_said() -> None:
    """A file that compose takes for a secret is seen in the containers with its owner and mode."""
    user = re.findall(r"^USER (\d+)$", (DOCKER / "data.Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)[-1]
    for page in (DOCKER / "compose.env.example", DOCKER.parent / "docs" / "operations.md"):
        assert re.search(rf"ray_token.*user {user}", page.read_text(encoding="utf-8"), re.DOTALL), page


def test_the_pools_that_the_dags_name_are_made_with_room_for_deferred_tasks(compose: dict[str, Any]) -> None:
    made = re.findall(r"^airflow pools set --include-deferred \"\$\$(\w+)\" ", compose["services"]["airflow-init"]["command"][-1], re.MULTILINE)
    assert made == [pools.CPU_VARIABLE, pools.GPU_VARIABLE]
    environment = compose["services"]["airflow-init"]["environment"]
    assert [environment[name] for name in made] == ["${DUBMILL_POOL_CPU:-cpu}", "${DUBMILL_POOL_GPU:-gpu}"]


def test_no_secret_has_a_value_in_the_compose_file(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD$|SECRET|TOKEN$|KEY", name):
                assert value.startswith("${"), name
    example = (DOCKER / "compose.env.example").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{(\w+):\?", (DOCKER / "compose.yaml").read_text(encoding="utf-8")))
    assert all(re.search(rf"^{name}=$", example, re.MULTILINE) for name in wanted)


def test_the_settings_files_for_the_bucket_are_settings() -> None:
    kinds = {
        "ingest_corpus": IngestSettings,
        "train_landmark_generator": LandmarkGeneratorTraining,
        "train_renderer": RendererTraining,
        "publish": ModelsSettings,
        "bulk_dubbing": BulkDubSettings,
        "evaluate_models": EvaluateSettings,
        "maintain_store": MaintainSettings,
        "review_dubs": ReviewSettings,
        "release_dubs": ReleaseSettings,
    }
    files = {path.stem: path for path in (DOCKER / "settings").glob("*.yaml")}
    assert set(files) == set(kinds)
    for name, kind in kinds.items():
        check_settings(kind, read_settings(str(files[name])))


def test_dubbing_takes_the_weights_from_where_training_publishes_them() -> None:
    settings = {path.stem: read_settings(str(path)) for path in (DOCKER / "settings").glob("*.yaml")}
    for kind in ("landmark-generator", "renderer"):
        for user in ("bulk_dubbing", "evaluate_models"):
            assert settings[user][kind.replace("-", "_")] == f"{settings['publish']['models']}/{kind}/current.json"


def test_only_training_runs_lie_where_airflow_does_not_reach(compose: dict[str, Any]) -> None:
    """The shared folder is Ray's alone: a task of Airflow that looked for something there would find nothing, for ever."""
    mounted = {name: service.get("volumes", []) for name, service in compose["services"].items()}
    assert {name for name, volumes in mounted.items() if any(volume.endswith(":/data") for volume in volumes)} == {
        "ray-head",
        "ray-worker",
        "ray-worker-cpu",
        "s3",
    }
    in_folders = {
        (path.stem, name)
        for path in (DOCKER / "settings").glob("*.yaml")
        for name, value in read_settings(str(path)).items()
        if any(str(place).startswith("/") for place in (value if isinstance(value, list) else [value]))
    }
    assert in_folders == {("train_landmark_generator", "out"), ("train_renderer", "out")}


def test_what_the_room_asks_for_again_is_where_bulk_dubbing_looks_and_reviews_are_where_the_room_looks() -> None:
    settings = {path.stem: read_settings(str(path)) for path in (DOCKER / "settings").glob("*.yaml")}
    assert settings["release_dubs"]["lists"] == settings["bulk_dubbing"]["jobs"]
    assert f"DUBMILL_REVIEW: ${{DUBMILL_REVIEW:-{settings['review_dubs']['review']}}}\n" in (DOCKER / "compose.yaml").read_text()


def test_a_store_that_comes_up_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    away = [EndpointConnectionError(endpoint_url="http://s3:8333/dubmill"), ConnectionRefusedError("refused")]
    script = runpy.run_path(str(DOCKER / "fill_bucket.py"))

    def fill(folder: Path, prefix: str) -> list[str]:
        if away:
            raise away.pop(0)
        return ["publish.yaml"]

    monkeypatch.setitem(script["main"].__globals__, "fill", fill)
    monkeypatch.setitem(script["main"].__globals__, "PAUSE_S", 0.0)
    monkeypatch.setattr(sys, "argv", ["fill_bucket.py", "settings", "s3://dubmill/settings"])
    assert script["main"]() == 0
    said = capsys.readouterr()
    assert said.out == "put into s3://dubmill/settings: publish.yaml\n"
    assert said.err.splitlines()[0].startswith("attempt 1 of 30: s3://dubmill/settings cannot be reached: Could not connect to the endpoint URL")


def test_the_bucket_is_filled_once_and_kept(tmp_path: Path) -> None:
    prefix = f"memory://dubmill-{tmp_path.name}/settings"
    fill = runpy.run_path(str(DOCKER / "fill_bucket.py"))["fill"]
    names = ["bulk_dubbing.yaml", "evaluate_models.yaml", "ingest_corpus.yaml", "maintain_store.yaml", "publish.yaml"]
    names += ["release_dubs.yaml", "review_dubs.yaml", "train_landmark_generator.yaml", "train_renderer.yaml"]
    assert fill(DOCKER / "settings", prefix) == names
    fsspec.filesystem("memory").pipe_file(f"/dubmill-{tmp_path.name}/settings/ingest_corpus.yaml", b"store: mine\n")
    assert fill(DOCKER / "settings", prefix) == []
    assert read_settings(f"{prefix}/ingest_corpus.yaml") == {"store": "mine"}
