"""Brings up Airflow and a Ray head on this machine, on loopback only, until Ctrl-C: `make up`.

Everything lies in one folder: settings, Airflow's database and logs, the corpus, the models. It is kept between runs.
The environment variable DUBMILL_DATABASE_URL, or a file that DUBMILL_DATABASE_URL_FILE names, puts Airflow on Postgres.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import services
from environments import ADMIN, AIRFLOW_PORT, LOOPBACK, REPOSITORY, admin_password, airflow_environment, database_url
from pools import make_pools, pool_names, slots_of_this_machine
from processes import Listener
from services import ServiceError, Services
from supervision import Supervisor

from schemas.errors import DubmillError
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
    Settings,
    write_settings,
)

WATCH_EVERY_S = 1.0
CHECK_SOCKETS_EVERY = 30
"""Of so many looks at the components one looks at their sockets too: Ray's workers open theirs when there is work."""
SMALL_STEPS = 2000
"""Steps of the settings that are written first: an hour or so on a CPU, to be raised by whoever has a GPU."""
SMALL_BATCH = 16


def main() -> int:
    """Starts everything, says where it is, starts again what ends by itself, and ends it all on Ctrl-C, SIGTERM or a closed terminal."""
    options = _parse()
    folder: Path = options.folder.resolve()
    try:
        database = database_url()
        with services.ended_by_signals(), Services(folder) as started:
            try:
                _bring_up(started, folder, options.cpus or os.cpu_count() or 1, database)
                _watch(started)
            except KeyboardInterrupt:
                print("\nEnding Airflow and Ray …", flush=True)
    except (ServiceError, DubmillError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    print("All of it has ended.", flush=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Airflow and a Ray head on this machine, on loopback only, until Ctrl-C.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "up", help="where everything lies (default: up/ in the repository)")
    parser.add_argument("--cpus", type=int, help="cores that Ray gives out (default: all)")
    return parser.parse_args()


def _bring_up(started: Services, folder: Path, cpus: int, database: str) -> None:
    home = folder / "airflow"
    write_first_settings(folder)
    password = admin_password(home)
    print("Starting a Ray head …", flush=True)
    ray_url = started.start_ray(cpus)
    print("Starting Airflow …", flush=True)
    port, names = services.free_port(AIRFLOW_PORT), pool_names()
    started.start_airflow(airflow_environment(home, folder / "settings", ray_url, port, database, folder / "review") | names)
    slots = {names[variable]: count for variable, count in slots_of_this_machine(cpus).items()}
    make_pools(f"http://{LOOPBACK}:{port}", password, slots)
    listeners = started.listeners()
    require_inside(listeners)
    print(
        f"""
Airflow    http://{LOOPBACK}:{port}    user {ADMIN}, password {password}
Review     http://{LOOPBACK}:{port}/review-room/    also in Airflow's menu; shows what the DAG review_dubs has laid out
Ray        {ray_url}
Database   {"Postgres, as the environment says" if database else home / "airflow.db"}
Settings   {folder / "settings"}    one file a DAG; put footage into {folder / "footage"}, job lists into {folder / "lists"}
Logs       {started.logs}

{sockets_table(listeners)}

A component that ends by itself is started again. Ctrl-C ends all of this and nothing else.
""",
        flush=True,
    )


def _watch(started: Services) -> None:
    """Starts again what ends by itself, until a KeyboardInterrupt."""
    supervisor = Supervisor(started, _say)
    looks, told = 0, set[str]()
    while True:
        time.sleep(WATCH_EVERY_S)
        supervisor.look()
        looks += 1
        if looks % CHECK_SOCKETS_EVERY == 0:
            # Told and not ended: torch's store, by which the workers of a training meet, listens everywhere for as long as one runs.
            new = [listener for listener in outside(started.listeners()) if listener not in told]
            told.update(new)
            for listener in new:
                _say(f"{listener} can be reached from beyond this machine, unless a firewall is before it.")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def outside(listeners: Sequence[Listener]) -> list[str]:
    """What can be reached from outside this machine: component, program and where it listens."""
    return [f"{listener.component} ({listener.process}) on {listener.address}:{listener.port}" for listener in listeners if not listener.is_inside]


def require_inside(listeners: Sequence[Listener]) -> None:
    """Raises ServiceError when some component can be reached from outside this machine."""
    if found := outside(listeners):
        raise ServiceError(f"Some component listens beyond this machine: {', '.join(found)}; all of it was ended.")


def sockets_table(listeners: Sequence[Listener]) -> str:
    """A line for each socket: whose it is, and where it listens."""
    rows = [("Listening", "program", "address", "port"), *((row.component, row.process, row.address, str(row.port)) for row in listeners)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>5}" for row in rows)


def write_first_settings(folder: Path) -> None:
    """Writes the settings files that are not there yet, one a DAG and one on publishing: small networks, this folder's corpus and models."""
    store, models, data, lists = (folder / name for name in ("corpus", "models", "footage", "lists"))
    for needed in (data, lists, folder / "settings"):
        needed.mkdir(parents=True, exist_ok=True)
    runs = folder / "runs"
    landmark_generator, renderer = (str(models / kind / "current.json") for kind in ("landmark-generator", "renderer"))
    first: dict[str, Settings] = {
        "ingest_corpus": IngestSettings(sources=(str(data),), store=str(store)),
        "train_landmark_generator": LandmarkGeneratorTraining(
            store=str(store), out=str(runs / "landmark-generator"), preset="small", steps=SMALL_STEPS, batch_size=SMALL_BATCH
        ),
        "train_renderer": RendererTraining(store=str(store), out=str(runs / "renderer"), preset="small", steps=SMALL_STEPS, batch_size=SMALL_BATCH),
        "publish": ModelsSettings(models=str(models)),
        "bulk_dubbing": BulkDubSettings(
            jobs=str(lists),
            out=str(folder / "dubs"),
            landmark_generator=landmark_generator,
            renderer=renderer,
        ),
        "evaluate_models": EvaluateSettings(store=str(store), out=str(folder / "evaluations"), landmark_generator=landmark_generator, renderer=renderer),
        "maintain_store": MaintainSettings(store=str(store)),
        "review_dubs": ReviewSettings(dub_settings=str(folder / "settings" / "bulk_dubbing.yaml"), review=str(folder / "review")),
        "release_dubs": ReleaseSettings(release=str(folder / "released"), lists=str(lists)),
    }
    for dag_id, settings in first.items():
        location = folder / "settings" / f"{dag_id}.yaml"
        if not location.exists():
            write_settings(settings, str(location))


if __name__ == "__main__":
    sys.exit(main())
