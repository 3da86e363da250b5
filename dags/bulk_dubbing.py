"""The DAG `bulk_dubbing`: lists of (video, speech) pairs to dubbed videos."""

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags.assets import DUBS
from dags.defaults import MOST_MAPPED, POOL_GPU, RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, THIS_RUN, deadline_of, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.locations import reachable
from schemas.settings import BulkDubSettings, check_settings, read_settings

log = logging.getLogger(__name__)

LIST_KINDS = frozenset({".csv", ".jsonl", ".parquet"})
CONCURRENT_LISTS = 4
"""Job lists dubbed at a time; Ray shares its machines out among them."""
QUIET_S = 60.0
"""A local list that was changed less long ago may still be being written: it is left for the next run."""
BY_HAND = "manual"
"""The type of such a run in Airflow."""
WHOLE_LISTS = (BY_HAND, "operator_triggered")
"""Types of runs whose lists are known to be whole: a person says so, or the DAG that dropped them."""
AT_WORK = ["running", "queued"]
"""States of a run that may still end what it began."""
NETWORKS = ("landmark_generator", "renderer")
"""As summaries call them."""
COUNTS = ("jobs", "already_done", "done")
"""Numbers of a job's summary that are added up over the lists of a run."""

DOCUMENTATION = """
### Lists of videos and speeches in, dubbed videos out
Runs the Ray job `ray_jobs.dub` once for each job list: it dubs each pair, and writes a row of results for each, done or failed
with a reason. Jobs that an earlier run finished are not done again.

1. **`find_lists`** gives the lists that are new or were changed since they were done, {most} at most; what is left over is for the next run,
   and said in its log. A list that another run is at is left to it, one that failed is tried again, and a local one that was changed within
   the last minute is left for the next run, lest it be half written. A run by hand does not wait for that, and takes a single list also when
   it was done before.
2. **`dub`** is the Ray job, once for each list, {at_a_time} at a time. It takes a slot of the pool `{pool}`. A list that is refused fails alone.
3. **`note`** remembers the lists that were done and updates the asset `dubs` with the counts of the run: lists, jobs, already done,
   done, failed by reason, the folders of the result tables, and the hashes of both networks. It is skipped when no job was left to do.
4. **`every_list`** does nothing; it is red when a `dub` failed, and with it the run.

* **`jobs` of the settings** is one list (.csv, .jsonl, .parquet), or a folder or s3:// prefix into which lists are dropped. Each
  list of a folder gets a folder of its own name below `out`: `out/monday.csv/`.
* **Schedule:** none unless the environment variable `DUBMILL_BULK_SCHEDULE` gives one, for example `*/5 * * * *`.
* **Parameters:** `settings`, the YAML file of `dubmill bulk-dub --settings`. For one run only: `only`, the name of the one list of the
  folder that is looked at; and `again`, whether lists that were done are begun again, which tries their failed jobs anew.
* **When it fails:** the log of the failed `dub` ends with the sentence of its job and that job's last lines. A list with a fault is refused
  as a whole, and all its faults are named there: mend it and drop it again. One bad pair never fails a list; it is a row of the results. Each
  task is tried again {retries} times, unless its settings are at fault, and a try finds a job that still runs; what is done of a list is not done
  again.
""".format(most=MOST_MAPPED, at_a_time=CONCURRENT_LISTS, pool=POOL_GPU, retries=TASK_DEFAULTS["retries"])


@dataclass(frozen=True)
class JobList:
    """A list as it was found. version: changes with its content. changed_s: when it last changed, in seconds of the epoch; 0 where it comes whole."""

    location: str
    version: str
    changed_s: float = 0.0

    @property
    def key(self) -> str:
        """Under which it is remembered."""
        return f"list-{hashlib.sha256(self.location.encode()).hexdigest()[:32]}"


# One at a time, of all runs: two that look at once would both begin a list.
@task(inlets=[DUBS], max_active_tis_per_dag=1)  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def find_lists(settings: str, *, params: Any = None, dag_run: Any = None, ti: Any = None, asset_state_store: Any = None) -> list[dict[str, Any]]:
    """The settings that differ from one Ray job to the next: of each list that is to be begun, its place and its output folder."""
    checked = _checked(settings)
    memory = asset_state_store[DUBS]
    is_one = is_list(checked.jobs)
    by_hand = dag_run.run_type == BY_HAND

    def is_at_work(run_id: str) -> bool:
        return run_id != dag_run.run_id and bool(ti.get_dr_count(dag_id=dag_run.dag_id, run_ids=[run_id], states=AT_WORK))

    now_s = None if dag_run.run_type in WHOLE_LISTS else time.time()

    def is_begun(found: JobList) -> bool:
        anew = params["again"] or (is_one and by_hand)
        return is_due(found, memory.get(found.key) or {}, is_at_work, anew=anew, now_s=now_s)

    looked_at = [JobList(checked.jobs, "")] if is_one and by_hand else lists_at(checked.jobs)
    begun = at_most(MOST_MAPPED, [found for found in named(params["only"] or "", looked_at) if is_begun(found)])
    for found in begun:
        memory.set(found.key, {"version": found.version, "run_id": dag_run.run_id, "done": False})
    log.info("%d lists are begun: %s", len(begun), ", ".join(found.location for found in begun))
    return [{"jobs": found.location, "out": checked.out if is_one else f"{checked.out.rstrip('/')}/{_name(found.location)}"} for found in begun]


def named(name: str, lists: list[JobList]) -> list[JobList]:
    """The list of that name, or all where no name is given. Raises AirflowFailException when there is no such list."""
    chosen = [found for found in lists if not name or _name(found.location) == name]
    if name and not chosen:
        raise AirflowFailException(f"There is no list {name} among the {len(lists)} lists that were found.")
    return chosen


def at_most(number: int, due: list[JobList]) -> list[JobList]:
    """The first lists that are due; the log tells of the others, which stay due."""
    if len(due) > number:
        log.warning("%d lists are due, and a run takes %d; the next run takes the others. Without a schedule, start it by hand.", len(due), number)
    return due[:number]


def is_due(found: JobList, known: dict[str, Any], is_at_work: Callable[[str], bool], *, anew: bool, now_s: float | None) -> bool:
    """Whether a list is to be begun. known: what is remembered of it. now_s: None when nobody waits until it was left alone for a while."""
    if now_s is not None and now_s - found.changed_s < QUIET_S:
        log.info("%s was changed just now and is left for the next run.", found.location)
        return False
    if known and not known["done"] and is_at_work(known["run_id"]):  # also of a list that has changed meanwhile: two would do its jobs twice
        return False
    return anew or known.get("version") != found.version or not known["done"]


def is_list(location: str) -> bool:
    """Whether a location is one list rather than a folder of them."""
    return PurePosixPath(location).suffix.lower() in LIST_KINDS


def lists_at(location: str) -> list[JobList]:
    """The list at a location, or all directly under it by name; none when nothing is there. Raises AirflowException to be tried again."""
    try:
        with reachable(location, SettingsError):
            filesystem, path = fsspec.core.url_to_fs(location)
            filesystem.invalidate_cache()
            entries = filesystem.ls(path, detail=True) if filesystem.exists(path) else []
    except (OSError, SettingsError) as error:
        raise AirflowException(f"{location} cannot be looked through: {error}") from error
    files = [entry for entry in entries if entry["type"] == "file" and is_list(entry["name"]) and not _name(entry["name"]).startswith(".")]
    place = location.rstrip("/")
    names = sorted((_name(entry["name"]), entry) for entry in files)
    return [_found(place if is_list(location) else f"{place}/{name}", entry) for name, entry in names]


def _found(location: str, entry: dict[str, Any]) -> JobList:
    version = next((str(entry[name]) for name in ("ETag", "etag", "mtime", "LastModified") if entry.get(name)), "")
    return JobList(location, f"{entry['size']}-{version}", float(entry.get("mtime") or 0.0))


def _name(location: str) -> str:
    return PurePosixPath(location).name


def _checked(location: str) -> BulkDubSettings:
    try:
        return check_settings(BulkDubSettings, read_settings(location))
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error


@task(inlets=[DUBS], outlets=[DUBS], trigger_rule="all_done_min_one_success")  # type: ignore[untyped-decorator]
def note(
    begun: list[dict[str, Any]], dubbed: Iterable[dict[str, Any]], *, dag_run: Any = None, outlet_events: Any = None, asset_state_store: Any = None
) -> dict[str, Any]:
    """Remembers the lists that were done, and tells the counts of the run as an event of the asset; no event where no job was left to do."""
    summaries = list(dubbed)
    memory = asset_state_store[DUBS]
    outs = {summary["out"] for summary in summaries}
    for overrides in begun:
        key = JobList(overrides["jobs"], "").key
        if overrides["out"] in outs and (known := memory.get(key)) and known["run_id"] == dag_run.run_id:
            memory.set(key, {**known, "done": True})
    counts = summed(summaries)
    if not counts["done"] and not counts["failed"]:
        raise AirflowSkipException(f"All {counts['jobs']} jobs were done before.")
    dubbed = [overrides for overrides in begun if overrides["out"] in outs]
    outlet_events[DUBS].extra = {**counts, "dubbed": dubbed}
    return counts


def summed(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several lists added up, where their result tables are, and by which weights they were made (SHA-256 by network)."""
    failed: Counter[str] = Counter()
    for summary in summaries:
        failed.update(summary["failed"])
    counts = {name: sum(summary[name] for summary in summaries) for name in COUNTS}
    models = {name: sorted({summary["models"][name] for summary in summaries if name in summary.get("models", {})}) for name in NETWORKS}
    results = [summary["results"] for summary in summaries]
    return {"lists": len(summaries), **counts, "failed": dict(sorted(failed.items())), "results": results, "models": models}


with DAG(
    "bulk_dubbing",
    description="Lists of videos and speeches to dubbed videos",
    schedule=os.environ.get("DUBMILL_BULK_SCHEDULE") or None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=CONCURRENT_LISTS,
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("bulk_dubbing"),
    params={
        "settings": settings_param("bulk_dubbing"),
        "only": Param(
            "",
            type=["null", "string"],
            title="Only this list",
            description="File name of one list of the folder, for example monday.csv. Nothing: all that are due.",
            section=THIS_RUN,
        ),
        "again": Param(
            default=False,
            type="boolean",
            title="Again",
            description="Lists that were done are begun again: what failed is tried anew.",
            section=THIS_RUN,
        ),
    },
    tags=["dubmill", "dubbing"],
    doc_md=DOCUMENTATION,
) as dag:
    lists = find_lists("{{ params.settings }}")
    dub = RayJobOperator.partial(
        task_id="dub",
        job="dub",
        settings="{{ params.settings }}",
        settings_class=BulkDubSettings,
        results=RESULTS_FOLDER,
        pool=POOL_GPU,
        max_active_tis_per_dagrun=CONCURRENT_LISTS,
        map_index_template="{{ task.overrides['jobs'] }}",
    ).expand(overrides=lists)
    note(lists, dub.output)
    # `note` runs although a list failed, and a run is what its last tasks are: without this one it would show no failure.
    dub >> EmptyOperator(task_id="every_list")
