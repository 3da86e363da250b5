"""The DAG `ingest_corpus`: new footage into the corpus store."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.assets import CORPUS
from dags.defaults import MOST_MAPPED, POOL_CPU, RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, THIS_RUN, deadline_of, settings_param, whole_number
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.settings import IngestSettings, check_settings, read_settings

EVENTS_LOOKED_AT = 50
"""Newest events of the asset in which the last one of this store is looked for: several stores may be filled by turns."""
SOURCES_AT_A_TIME = whole_number("DUBMILL_INGEST_SOURCES_AT_A_TIME", 1)
"""Ray jobs that run side by side: one fills the cluster by itself, unless `workers` of the settings says otherwise."""
REPLACED = ("sources", "layout")
"""Settings that a run's parameters may replace."""
COUNTS = ("sources", "known", "batches", "clips", "frames")
"""Numbers of a job's summary that are added up over the jobs of a run."""

DOCUMENTATION = """
### Footage in, clips out
Runs the Ray job `ray_jobs.ingest` once for each location under `sources` of the settings: it finds the sources there, leaves
out those that the store already has, and writes the others as batches of clips, or as rejects with a reason.

1. **`list_sources`** reads the settings file and gives one `ingest` to each location, at most {most}: list folders rather than files.
2. **`ingest`** is the Ray job, `DUBMILL_INGEST_SOURCES_AT_A_TIME` ({at_a_time}) at a time. It takes a slot of the pool `{pool}`.
3. **`publish`** updates the asset `corpus` with the counts of the run, added up over the locations: sources, known, batches,
   clips, frames, rejects. It is skipped when the store holds the same clips as when the asset was updated last: without
   anything new to learn from, no training starts.
4. **`every_source`** does nothing; it is red when an `ingest` failed, and with it the run.

* **Schedule:** none unless the environment variable `DUBMILL_INGEST_SCHEDULE` gives one, for example `@daily` or `0 3 * * *`.
* **Parameters:** `settings`, the YAML file of `dubmill ingest --settings`. For one run only: `sources` takes the place of those in the
  file, and `layout` says how they are arranged.
* **Again:** running it again is safe. A finished batch never changes, and known sources are not read again. A run depends on nothing but
  the settings and the store, so a backfill of past dates does no harm: its first run takes what is new, the others find everything known.
* **When it fails:** the log of the failed `ingest` ends with the sentence of its job and that job's last lines. What the other
  locations brought is published all the same. Each task is tried again {retries} times, unless its settings are at fault, and a try finds a job that
  still runs. After that mend what the sentence names and clear the failed `ingest`, or wait for the next run: both begin where this one stopped.
""".format(most=MOST_MAPPED, at_a_time=SOURCES_AT_A_TIME, pool=POOL_CPU, retries=TASK_DEFAULTS["retries"])


@task  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def list_sources(location: str, *, params: Any = None) -> list[dict[str, Any]]:
    """The settings that differ from one Ray job to the next: one source location each. Those of the run's parameters replace the file's."""
    of_run = {name: params[name] for name in REPLACED if params[name]}
    try:
        settings = check_settings(IngestSettings, {**read_settings(location), **of_run})
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error
    sources = list(dict.fromkeys(settings.sources))
    if not sources:
        raise AirflowFailException(f"{location}: There are no sources to ingest; list folders, files or s3:// prefixes under `sources`.")
    if len(sources) > MOST_MAPPED:
        raise AirflowFailException(
            f"{location}: {len(sources)} sources are listed, and a run takes {MOST_MAPPED} at most; list the folders that they lie in rather than files."
        )
    return [{"sources": [source], "layout": settings.layout} for source in sources]


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
    deadline=deadline_of("ingest_corpus"),
    params={
        "settings": settings_param("ingest_corpus"),
        "sources": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "minLength": 1},
            maxItems=MOST_MAPPED,
            title="Sources",
            description="Folders, files or s3:// prefixes, one a line, in place of those in the settings file. Nothing: those.",
            section=THIS_RUN,
        ),
        "layout": Param(
            None,
            type=["null", "string"],
            enum=[None, "auto", "folder", "lrs2", "cmlr"],
            values_display={"null": "as the settings file says"},
            title="Layout",
            description="How the sources are arranged; auto recognises the others.",
            section=THIS_RUN,
        ),
    },
    tags=["dubmill", "corpus"],
    doc_md=DOCUMENTATION,
) as dag:
    ingest = RayJobOperator.partial(
        task_id="ingest",
        job="ingest",
        settings="{{ params.settings }}",
        settings_class=IngestSettings,
        results=RESULTS_FOLDER,
        pool=POOL_CPU,
        max_active_tis_per_dag=SOURCES_AT_A_TIME,  # of all runs: a backfill has several at once, whatever max_active_runs says
        map_index_template="{{ task.overrides['sources'][0] }}",
    ).expand(overrides=list_sources("{{ params.settings }}"))
    publish(ingest.output)
    # `publish` runs although a job failed, and a run is what its last tasks are: without this one it would show no failure.
    ingest >> EmptyOperator(task_id="every_source")
