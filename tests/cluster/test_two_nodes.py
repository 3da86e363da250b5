"""From footage to dubs across two Ray nodes, as in production: Postgres, S3, a token, machines that share neither disk nor memory.

Airflow with its own scheduler, triggerer, DAG processor and API server is the third machine. During the dubbing a node is lost and another comes.
"""

import importlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from tasks import places
from tasks.corpus.store import CorpusStore
from tasks.media.probe import probe
from tests.airflow_api import AirflowApi
from tests.cluster.machines import Network, network
from tests.cluster.production import BUCKET, CREDENTIALS, airflow_environment, object_store, put_footage, write_settings_files
from tests.cluster.ray_nodes import RayCluster, log_tail, wait_until
from tests.postgres_server import postgres_server

environments = importlib.import_module("environments")
services = importlib.import_module("services")

DAGS = {"ingest_corpus", "train_landmark_generator", "train_renderer", "bulk_dubbing"}
WHAT_DIFFERS = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "DUBMILL_REVIEW_DATABASE_URL",
    "AIRFLOW_CONN_RAY_DEFAULT",
    "DUBMILL_SETTINGS",
    "AWS_ENDPOINT_URL",
    *CREDENTIALS,
}
CLIPS, STEPS, DUBS = 4, 2, 3
LIMIT_S = 1500

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(LIMIT_S),
    pytest.mark.skipif(not services.AIRFLOW.exists(), reason="needs the control environment beside the data one"),
]


@dataclass
class Production:
    """All of it, running. seconds: by stage."""

    network: Network
    cluster: RayCluster
    airflow: AirflowApi
    environment: dict[str, str]
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes and says how long something took."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        print(f"{name}: {self.seconds[name]:.0f} s", flush=True)


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    with ExitStack() as running:
        began = time.monotonic()
        joined = running.enter_context(network(tmp_path / "machines", ["head", "worker", "spare"]))
        store = running.enter_context(object_store(joined, tmp_path / "s3.log"))
        running.callback(lambda: [print(f"--- {machine.name}\n{log_tail(machine)}") for machine in joined.machines.values()])
        cluster = RayCluster(joined, joined.machines["head"], 1, store)
        cluster.start_head()
        cluster.start_worker(joined.machines["worker"])
        print(f"two Ray nodes: {time.monotonic() - began:.0f} s", flush=True)
        postgres = running.enter_context(postgres_server())
        airflow = running.enter_context(services.Services(tmp_path / "airflow"))
        home, port = tmp_path / "airflow" / "home", services.free_port()
        environment = airflow_environment(home, cluster, postgres.url, port, store)
        password = environments.admin_password(home)
        airflow.start_airflow(environment)
        print(f"and Airflow: {time.monotonic() - began:.0f} s", flush=True)
        yield Production(joined, cluster, AirflowApi(f"http://127.0.0.1:{port}", "admin", password), environment, tmp_path)


def test_footage_becomes_dubs_across_two_nodes_and_a_lost_one_is_replaced(production: Production) -> None:
    cluster, airflow = production.cluster, production.airflow
    require_only_settings_differ(production)
    require_token(cluster)
    with production.stage("footage"):
        clips = put_footage(production.folder, CLIPS)
        write_settings_files(STEPS)
    wait_until("all DAGs", lambda: airflow.dags() >= DAGS, 120)
    assert airflow.import_errors() == []
    for dag_id in DAGS:
        airflow.unpause(dag_id)

    with production.stage("ingest_corpus"):
        airflow.begin("ingest_corpus")
        airflow.run_to_its_end("ingest_corpus", 400)
    assert CorpusStore.open(f"{BUCKET}/corpus").clips().num_rows == CLIPS
    assert nodes_of(cluster, "BatchActor") == set(cluster.nodes())

    with production.stage("trainings"):  # begun by the asset that ingest updated
        runs = [airflow.run_to_its_end(dag_id, 600) for dag_id in ("train_landmark_generator", "train_renderer")]
    assert {run.run_type for run in runs} == {"asset_triggered"}
    for kind in ("landmark-generator", "renderer"):
        current = json.loads(places.read_bytes(f"{BUCKET}/models/{kind}/current.json"))
        assert places.exists(f"{BUCKET}/models/{kind}/{current['weights']}")

    lost_and_found = NodeLoss(production)
    with production.stage("bulk_dubbing"):
        rows = [f"job{number},{clip},{BUCKET}/speech.wav,job{number}.mp4" for number, clip in enumerate(clips[:DUBS])]
        places.write_bytes(f"{BUCKET}/jobs.csv", "\n".join(["job_id,video,speech,out", *rows]).encode())
        airflow.begin("bulk_dubbing")
        airflow.run_to_its_end("bulk_dubbing", 700, lost_and_found.look)
    assert lost_and_found.happened
    assert len(nodes_of(cluster, "DubActor")) >= 2
    require_dubs(production.folder)
    told = airflow.events()
    assert set(told) == {"corpus", "landmark-generator", "renderer", "dubs"}
    assert (told["dubs"]["done"], told["dubs"]["failed"]) == (DUBS, {})
    print(json.dumps({name: round(taken) for name, taken in production.seconds.items()}))


class NodeLoss:
    """Cuts a node off while it dubs, and brings another one."""

    def __init__(self, production: Production) -> None:
        self._production = production
        self.happened = False

    def look(self) -> None:
        """Kills the raylet of the machine `worker` once a worker there has begun, and starts a node on the machine `spare`."""
        cluster, machines = self._production.cluster, self._production.network.machines
        if self.happened or not self._works_at(machines["worker"].address):
            return
        self.happened = True
        before = set(cluster.nodes())
        machines["worker"].kill("raylet")
        began = time.monotonic()
        wait_until("a lost node", lambda: len(before & set(cluster.nodes())) < len(before), 120)
        print(f"node lost: known to the head after {time.monotonic() - began:.0f} s", flush=True)
        cluster.start_worker(machines["spare"])
        print(f"node replaced: after {time.monotonic() - began:.0f} s", flush=True)

    def _works_at(self, address: str) -> bool:
        nodes = self._production.cluster.nodes()
        alive = [actor for actor in self._production.cluster.actors("DubActor") if actor["state"] == "ALIVE"]
        return len(alive) > 1 and any(nodes.get(actor["node_id"]) == address for actor in alive)


def require_only_settings_differ(production: Production) -> None:
    """Nothing but where things are tells this Airflow from the embedded one."""
    home = Path(production.environment["AIRFLOW_HOME"])
    embedded = environments.airflow_environment(home, home, "http://127.0.0.1:8265", int(production.environment["AIRFLOW__API__PORT"]))
    without_store = {name: value for name, value in embedded.items() if name not in {"AWS_ENDPOINT_URL", *CREDENTIALS}}
    used = production.environment
    differing = {name for name in without_store.keys() | used.keys() if without_store.get(name) != used.get(name)}
    assert differing - {"PYTEST_CURRENT_TEST"} == WHAT_DIFFERS


def require_token(cluster: RayCluster) -> None:
    """Who has no token is sent away."""
    assert httpx.get(f"{cluster.url}/api/jobs/", trust_env=False, timeout=30).status_code == httpx.codes.UNAUTHORIZED
    for machine in (cluster.head, cluster.network.machines["worker"]):
        assert (machine.folder / "token").stat().st_mode & 0o777 == 0o600


def nodes_of(cluster: RayCluster, kind: str) -> set[str]:
    """Ids of the nodes at which actors of a class were."""
    return {actor["node_id"] for actor in cluster.actors(kind) if actor["node_id"]}


def require_dubs(folder: Path) -> None:
    """All dubs are there, each as long as the speech."""
    speech_s = probe(folder / "speech.wav").duration_s
    assert speech_s is not None
    for number in range(DUBS):
        fsspec.filesystem("s3").get_file(f"{BUCKET}/dubs/job{number}.mp4", str(folder / f"{number}.mp4"))
        dub: Any = probe(folder / f"{number}.mp4")
        assert (dub.video_codec, dub.audio_codec) == ("h264", "aac")
        assert abs(dub.duration_s - speech_s) < 0.1
