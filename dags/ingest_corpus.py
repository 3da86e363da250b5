"""The DAG `ingest_corpus`: new footage into the corpus store."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.assets import CORPUS
from dags.defaults import RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.settings import IngestSettings, check_settings, read_settings

EVENTS_LOOKED_AT = 50
"""Newest events of the asset in which the last one of this store is looked for: several stores may be filled by turns."""
SOURCES_AT_A_TIME = int(os.environ.get("DUBMILL_INGEST_SOURCES_AT_A_TIME", "1"))
"""Ray jobs that run side by side: one fills the cluster by itself, unless `workers` of the settings says otherwise."""
COUNTS = ("sources", "known", "batches", "clips", "frames")
"""Numbers of a job's summary that are added up over the jobs of a run."""

DOCUMENTATION = """
### Footage in, clips out
Runs the Ray job `ray_jobs.ingest` once for each location under `sources` of the settings: it finds the sources there, leaves
out those that the store already has, and writes the others as batches of clips, or as rejects with a reason. Running it again
is safe: a finished batch never changes, and known sources are not read again. A run depends on nothing but the settings and
the store, so a backfill of past dates does no harm: its first run takes what is new, the others find everything known.

* **Schedule:** none unless the environment variable `DUBMILL_INGEST_SCHEDULE` gives one, for example `@daily` or `0 3 * * *`.
* **Parameter `settings`:** the YAML file of `dubmill ingest --settings`.
* **`ingest`** is mapped over the locations, `DUBMILL_INGEST_SOURCES_AT_A_TIME` (1) at a time.
* **`publish`** updates the asset `corpus` with the counts of the run, added up over the locations: sources, known, batches,
  clips, frames, rejects. It is skipped when the store holds the same clips as when the asset was updated last: without
  anything new to learn from, no training starts.
* **When it fails:** the log of the failed `ingest` ends with its job's last lines, and `every_source` shows the run as failed.
  What the other locations brought is published all the same. A retry finds a running job again.
"""


@task  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def list_sources(location: str) -> list[dict[str, Any]]:
    """The settings that differ from one Ray job to the next: one source location each."""
    try:
        settings = check_settings(IngestSettings, read_settings(location))
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error
    if not settings.sources:
        raise AirflowFailException(f"{location}: There are no sources to ingest; list folders, files or s3:// prefixes under `sources`.")
    return [{"sources": [source]} for source in dict.fromkeys(settings.sources)]


@task(inlets=[CORPUS], outlets=[CORPUS], trigger_rule="all_done_min_one_success")  # type: ignore[untyped-decorator]
def publish(ingested: Iterable[dict[str, Any]], *, inlet_events: Any = None, outlet_events: Any = None) -> None:
    """Tells of new clips: an event of the asset with the counts of the run. Skipped when there are none, and nothing follows.

    The store's state decides, not the run's counts: a job that died after its last batch is tried again, and the retry, for
    which everything is known, counts no clip.
    """
    found = summed(list(ingested))
    if not found["corpus_batches"]:
        raise AirflowSkipException("The corpus holds no clips yet.")
    recent = (event.extra for event in inlet_events[CORPUS].ascending(ascending=False).limit(EVENTS_LOOKED_AT))
    last: dict[str, Any] = next((published for published in recent if published.get("store") == found["store"]), {})
    if last.get("corpus_version") == found["corpus_version"]:
        raise AirflowSkipException("The corpus holds the same clips as when it was last published, so nothing is trained anew.")
    outlet_events[CORPUS].extra = found


def summed(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several jobs of a run: their counts added up, the store's state from the one that saw the most of it."""
    newest = max(summaries, key=lambda summary: summary["corpus_batches"])
    rejects: Counter[str] = Counter()
    for summary in summaries:
        rejects.update(summary["rejects"])
    counts = {name: sum(summary[name] for summary in summaries) for name in COUNTS}
    return {**newest, **counts, "rejects": dict(sorted(rejects.items()))}


with DAG(
    "ingest_corpus",
    description="New footage into the corpus store",
    schedule=os.environ.get("DUBMILL_INGEST_SCHEDULE") or None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    params={"settings": settings_param("ingest_corpus")},
    tags=["dubmill", "corpus"],
    doc_md=DOCUMENTATION,
) as dag:
    ingest = RayJobOperator.partial(
        task_id="ingest",
        job="ingest",
        settings="{{ params.settings }}",
        settings_class=IngestSettings,
        results=RESULTS_FOLDER,
        max_active_tis_per_dagrun=SOURCES_AT_A_TIME,
        map_index_template="{{ task.overrides['sources'][0] }}",
    ).expand(overrides=list_sources("{{ params.settings }}"))
    publish(ingest.output)
    # `publish` runs although a job failed, and a run is what its last tasks are: without this one it would show no failure.
    ingest >> EmptyOperator(task_id="every_source")
