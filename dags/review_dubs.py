"""The DAG `review_dubs`: what was dubbed in bulk is laid out in the review room."""

import logging
from collections.abc import Iterable
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.assets import DUBS
from dags.defaults import MOST_MAPPED, POOL_CPU, RESULTS_FOLDER, START_DATE, TASK_DEFAULTS, deadline_of, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.review import batch_name
from schemas.settings import ReviewSettings

log = logging.getLogger(__name__)

DOCUMENTATION = f"""
### What was dubbed in bulk is laid out in the review room
1. **`list_runs`** takes the lists that `bulk_dubbing` has dubbed since the last run of this DAG; by hand, those of its newest run.
2. **`prepare`** (Ray job `ray_jobs.review_dubs`) makes of each list a batch below `review` of the settings: of every dub the source as the dub plays
   it, the curves of both mouths and of the sound, the moments to look at, figures, and whether the **gate** lets it pass. What is there of the very
   same dub is not made again; its gate is judged by the thresholds of now.

* **Runs** when `bulk_dubbing` has dubbed something, or by hand.
* **Parameter `settings`:** a YAML file: `dub_settings` (the settings file of `bulk_dubbing`), `review` (a prefix that `DUBMILL_REVIEW` names, where
  the review room looks), and `thresholds` and `min_passed_share` of the gate. A dub that the gate holds can be rejected or redone, and not approved.
* **Pool:** `prepare` takes a slot of `{POOL_CPU}` a list.
* **Running it again** is safe, and is how new thresholds come to hold.
* **When it fails:** the log of the failed `prepare` ends with the sentence of its job and that job's last lines. A dub that cannot be shown fails no
  run: the batch's note names it. Each task is tried again {TASK_DEFAULTS["retries"]} times, unless its settings are at fault. After that mend what
  the sentence names, and clear the failed task.
"""


@task(inlets=[DUBS])  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def list_runs(*, triggering_asset_events: Any = None, inlet_events: Any = None) -> list[dict[str, str]]:
    """The job list and output folder of each bulk run that is to be reviewed. Skipped when there is none."""
    events = list((triggering_asset_events or {}).get(DUBS, ())) or list(inlet_events[DUBS].ascending(ascending=False).limit(1))
    runs = dubbed_lists(event.extra for event in events)
    if not runs:
        raise AirflowSkipException("Nothing was dubbed in bulk yet.")
    if left_out := runs[:-MOST_MAPPED]:
        log.error("A run lays out %d lists, the newest ones. Lay these out by `dubmill review`: %s", MOST_MAPPED, ", ".join(one["jobs"] for one in left_out))
    return runs[-MOST_MAPPED:]


def dubbed_lists(extras: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Each list once, however often it was dubbed, with a batch of its own; the one that was dubbed last comes last."""
    found: dict[tuple[str, str], None] = {}
    for one in (one for extra in extras for one in extra.get("dubbed", ())):
        found.pop((one["jobs"], one["out"]), None)
        found[one["jobs"], one["out"]] = None
    return [{"jobs": jobs, "out": out, "batch": batch_name(jobs)} for jobs, out in found]


with DAG(
    "review_dubs",
    description="Dubs in bulk, laid out in the review room",
    schedule=[DUBS],
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,  # two that make one batch would each write its list
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("review_dubs"),
    params={"settings": settings_param("review_dubs")},
    tags=["dubmill", "dubbing", "review"],
    doc_md=DOCUMENTATION,
) as dag:
    RayJobOperator.partial(
        task_id="prepare",
        job="review_dubs",
        settings="{{ params.settings }}",
        settings_class=ReviewSettings,
        results=RESULTS_FOLDER,
        pool=POOL_CPU,
        map_index_template="{{ task.overrides['jobs'] }}",
    ).expand(overrides=list_runs())
