"""dubmill as in production, small: every place on s3://, Airflow on Postgres, Ray on machines of its own. Only settings make it so."""

import importlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fsspec
import httpx
import pytest

from schemas.settings import BulkDubSettings, IngestSettings, LandmarkGeneratorTraining, ModelsSettings, RendererTraining, Settings, write_settings
from tests.cluster.machines import Network
from tests.cluster.ray_nodes import RayCluster, wait_until

environments = importlib.import_module("environments")
services = importlib.import_module("services")

BUCKET = "s3://dubmill"
SETTINGS = f"{BUCKET}/settings"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
"""moto wants a region other than us-east-1 for what s3fs does."""
S3_START_LIMIT_S = 60.0


@contextmanager
def object_store(network: Network, log: Path) -> Iterator[dict[str, str]]:
    """An S3 server that all machines reach, and an empty bucket in it; gives the environment by which s3:// is found, which this process has, too."""
    port = services.free_port()
    with log.open("wb") as file:
        command = [environments.DATA_PYTHON.with_name("moto_server"), "-H", network.gateway, "-p", str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{network.gateway}:{port}"}
    try:
        wait_until("the object store", lambda: _answers(environment["AWS_ENDPOINT_URL"]), S3_START_LIMIT_S)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            fsspec.filesystem("s3").clear_instance_cache()
            fsspec.filesystem("s3", client_kwargs={"region_name": CREDENTIALS["AWS_DEFAULT_REGION"]}).mkdir(BUCKET.removeprefix("s3://"))
            yield environment
    finally:
        process.kill()
        process.wait()
        fsspec.filesystem("s3").clear_instance_cache()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.TransportError:
        return False


def airflow_environment(home: Path, cluster: RayCluster, database: str, port: int, store: Mapping[str, str]) -> dict[str, str]:
    """The environment of the embedded Airflow but for where database, settings and cluster are."""
    connection = {"conn_type": "http", "host": cluster.head.address, "port": cluster.dashboard_port, "password": cluster.token}
    embedded: dict[str, str] = environments.airflow_environment(home, SETTINGS, cluster.url, port, database)
    return embedded | {"AIRFLOW_CONN_RAY_DEFAULT": json.dumps(connection)} | dict(store)


def write_settings_files(steps: int) -> None:
    """The settings files, one a DAG and one on publishing, in the bucket: small networks, few steps. They name places of the bucket alone."""
    training = {"store": f"{BUCKET}/corpus", "preset": "small", "steps": steps, "batch_size": 2, "validate_every": steps, "device": "cpu"}
    validation = {"validation_samples": 2, "validation_clips": 1}
    files: dict[str, Settings] = {
        "ingest_corpus": IngestSettings(sources=(f"{BUCKET}/footage",), store=f"{BUCKET}/corpus", batch_sources=1),
        "train_landmark_generator": LandmarkGeneratorTraining.model_validate({**training, **validation, "out": f"{BUCKET}/runs/landmark-generator"}),
        "train_renderer": RendererTraining.model_validate({**training, **validation, "out": f"{BUCKET}/runs/renderer", "warm_up_epochs": 0.0}),
        "publish": ModelsSettings(models=f"{BUCKET}/models", device="cpu"),
        "bulk_dubbing": BulkDubSettings(
            jobs=f"{BUCKET}/jobs.csv",
            out=f"{BUCKET}/dubs",
            landmark_generator=f"{BUCKET}/models/landmark-generator/current.json",
            renderer=f"{BUCKET}/models/renderer/current.json",
            references=3,
            landmark_references=3,
            workers=2,
            device="cpu",
        ),
    }
    for name, settings in files.items():
        write_settings(settings, f"{SETTINGS}/{name}.yaml")


def put_footage(folder: Path, clips: int) -> list[str]:
    """Makes clips of two people and a speech, and puts them into the bucket; the clips' places."""
    from tasks.sample import make_sample_footage

    made = make_sample_footage(folder / "footage", clips=clips, seconds=(2.0, 2.5))
    s3 = fsspec.filesystem("s3")
    places = [f"{BUCKET}/footage/{clip.relative_to(made.folder)}" for clip in made.clips]
    for clip, place in zip(made.clips, places, strict=True):
        s3.put_file(str(clip), place)
    s3.put_file(str(made.speech), f"{BUCKET}/speech.wav")
    return places
