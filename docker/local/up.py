"""Brings up Airflow and a Ray head on this machine, on loopback only, until Ctrl-C: `make up`.

Everything lies in one folder: settings, Airflow's database and logs, the corpus, the models. It is kept between runs.
"""

import argparse
import sys
import time
from pathlib import Path

import services
from services import ServiceError, Services

from schemas.settings import BulkDubSettings, IngestSettings, LandmarkGeneratorTraining, ModelsSettings, RendererTraining, Settings, write_settings

WATCH_EVERY_S = 1.0
SMALL_STEPS = 2000
"""Steps of the settings that are written first: an hour or so on a CPU, to be raised by whoever has a GPU."""
SMALL_BATCH = 16


def main() -> int:
    """Starts everything, says where it is, watches it, and ends it on Ctrl-C, SIGTERM or a closed terminal."""
    options = _parse()
    folder: Path = options.folder.resolve()
    try:
        with services.ended_by_signals(), Services(folder) as started:
            try:
                _bring_up(started, folder, options.cpus)
                while True:
                    time.sleep(WATCH_EVERY_S)
                    started.require_running()
            except KeyboardInterrupt:
                print("\nEnding Airflow and Ray …", flush=True)
    except ServiceError as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    print("All of it has ended.", flush=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Airflow and a Ray head on this machine, on loopback only, until Ctrl-C.")
    parser.add_argument("--folder", type=Path, default=services.REPOSITORY / "up", help="where everything lies (default: up/ in the repository)")
    parser.add_argument("--cpus", type=int, help="cores that Ray gives out (default: all)")
    return parser.parse_args()


def _bring_up(started: Services, folder: Path, cpus: int | None) -> None:
    home = folder / "airflow"
    write_first_settings(folder)
    password = services.admin_password(home)
    print("Starting a Ray head …", flush=True)
    ray_url = started.start_ray(cpus)
    print("Starting Airflow …", flush=True)
    port = services.free_port(services.AIRFLOW_PORT)
    started.start_airflow(services.airflow_environment(home, folder / "settings", ray_url, port))
    print(
        f"""
Airflow    http://{services.LOOPBACK}:{port}    user {services.ADMIN}, password {password}
Ray        {ray_url}
Settings   {folder / "settings"}    one file a DAG; put footage into {folder / "footage"}
Logs       {started.logs}
{_listeners(started)}
Ctrl-C ends all of this and nothing else.
""",
        flush=True,
    )


def _listeners(started: Services) -> str:
    """Says on which addresses the started processes listen. Raises ServiceError when one can be reached from outside."""
    listening = started.listening()
    outside = [f"{address}:{port}" for address, port in listening if not services.is_loopback(address)]
    if outside:
        raise ServiceError(f"Some component listens beyond this machine, on {', '.join(outside)}; all of it was ended.")
    return f"Listening  on loopback only, ports {', '.join(str(port) for _, port in listening)}"


def write_first_settings(folder: Path) -> None:
    """Writes the settings files that are not there yet, one a DAG and one on publishing: small networks, this folder's corpus and models."""
    store, models, data = folder / "corpus", folder / "models", folder / "footage"
    for needed in (data, folder / "settings"):
        needed.mkdir(parents=True, exist_ok=True)
    runs = folder / "runs"
    first: dict[str, Settings] = {
        "ingest_corpus": IngestSettings(sources=(str(data),), store=str(store)),
        "train_landmark_generator": LandmarkGeneratorTraining(
            store=str(store), out=str(runs / "landmark-generator"), preset="small", steps=SMALL_STEPS, batch_size=SMALL_BATCH
        ),
        "train_renderer": RendererTraining(store=str(store), out=str(runs / "renderer"), preset="small", steps=SMALL_STEPS, batch_size=SMALL_BATCH),
        "publish": ModelsSettings(models=str(models)),
        "bulk_dubbing": BulkDubSettings(
            jobs=str(folder / "jobs.csv"),
            out=str(folder / "dubs"),
            landmark_generator=str(models / "landmark-generator" / "current.json"),
            renderer=str(models / "renderer" / "current.json"),
        ),
    }
    for dag_id, settings in first.items():
        location = folder / "settings" / f"{dag_id}.yaml"
        if not location.exists():
            write_settings(settings, str(location))


if __name__ == "__main__":
    sys.exit(main())
