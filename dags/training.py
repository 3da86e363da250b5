"""What both training DAGs are made of: a gate, a frozen snapshot, a training run, and its model published if it is the better one.

No DAG of its own: `train_landmark_generator` and `train_renderer` are built here (Airflow finds them in their own files).
"""

import os
import re
from typing import Any

from airflow.sdk import DAG, Asset, Param, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.assets import CORPUS
from dags.defaults import POOL_CPU, POOL_GPU, RESULTS_FOLDER, SETTINGS_FOLDER, START_DATE, TASK_DEFAULTS, THIS_RUN, deadline_of, settings_param, whole_number
from dags.operators.ray_job import RayJobOperator
from schemas.checkpoints import Kind
from schemas.errors import SettingsError
from schemas.settings import (
    AnySettings,
    FreezeSettings,
    LandmarkGeneratorTraining,
    ModelsSettings,
    PublishSettings,
    RendererTraining,
    SnapshotSettings,
    TrainingSettings,
    check_settings,
    read_settings,
)

SETTINGS: dict[Kind, type[TrainingSettings]] = {"landmark-generator": LandmarkGeneratorTraining, "renderer": RendererTraining}
MIN_NEW_CLIPS = whole_number("DUBMILL_TRAIN_MIN_NEW_CLIPS", 1)
"""By how many clips a corpus must have grown since the last training: one by default, so that no footage waits unseen."""
BY_HAND = "manual"
"""The type of such a run in Airflow."""
EVENTS_LOOKED_AT = 50
"""Newest events of the corpus in which the last one of this store is looked for: several stores may be filled by turns."""

DOCUMENTATION = """
### {title}
1. **`gate`** goes on when the corpus store has grown by `min_new_clips` since the last training that ended well; what is missing
   is in its log, the run is skipped then, and the growth adds up until there is enough. A run by hand always passes, unless
   `hold_back` is set. Settings that cannot be used fail here, before anything is computed.
2. **`freeze`** (Ray job `ray_jobs.freeze_snapshot`) freezes the clips that this run reads, or takes the snapshot that the
   settings name.
3. **`train`** (Ray job `ray_jobs.train_{name}`) trains into a folder of this run's own below `out` of the settings: no former
   weights are written over. A retry goes on from the last state of its own run; a new run, or a cleared task, starts afresh.
   **`remember`** then counts the corpus as trained on: after a training that failed, the next event of the corpus tries again.
4. **`publish`** (Ray job `ray_jobs.publish_model`) measures the new weights and the published ones on the validation clips of
   that snapshot. The better ones are in use from then on: `<models>/{kind}/current.json` names their version.
5. **`announce`** updates the asset `{kind}` with version, score and metrics, only if the model was published. Otherwise it is
   skipped, the run succeeds, and the log says by how much the new weights lost.

* **Runs** when the asset `corpus` was published, or by hand; one run at a time. Runs that come meanwhile wait, and what they would have
  learnt from adds up.
* **Parameters:** `settings`, the YAML file of `dubmill train {kind} --settings`; `publish`, a YAML file that says where
  models are published, which licences the sources have, and what is asked of a network (`models`, `licences`, `min_gain_share`,
  `landmark_generator_thresholds`, `renderer_thresholds`, `device`);
  `selection`, a YAML file of `dubmill corpus snapshot --settings`, or nothing for the default selection; `min_new_clips`. For one run
  only: `hold_back`; `steps`, in place of those in the settings file.
* **Pools:** `train` and `publish` take a slot of `{gpu}`, `freeze` one of `{cpu}`.
* **Cleaning up:** the runs' folders below `out` stay until you remove them (`rm -r`, `aws s3 rm --recursive`); what is published is
  a copy, so all may go but that of a run that still trains, waits for `publish`, or is to be trained on.
* **When it fails:** the task's log ends with the sentence of its job and that job's last lines. Each task is tried again {retries} times,
  unless its settings are at fault, and a try finds a job that still runs. After that mend what the sentence names, and wait for the next event of
  the corpus or start a run by hand.
  A cleared `train` starts from its first step again: raise the retries (`DUBMILL_TASK_RETRIES`) where machines are often lost.
"""


def training_dag(dag_id: str, kind: Kind, model: Asset, title: str) -> DAG:
    """The DAG that trains one kind of network and updates the asset `model` with each version that is published.

    dag_id is also the name of the Ray job that trains.
    """
    with DAG(
        dag_id,
        description=title,
        schedule=[CORPUS],
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        default_args=TASK_DEFAULTS,
        deadline=deadline_of(dag_id),
        params=_params(dag_id),
        tags=["dubmill", "training"],
        doc_md=_documentation(kind, title),
    ) as dag:
        plan = gate(kind, "{{ params.settings }}", "{{ params.publish }}", "{{ params.selection or '' }}")
        freeze = RayJobOperator(
            task_id="freeze",
            job="freeze_snapshot",
            settings_class=FreezeSettings,
            overrides=plan["freeze"],
            results=RESULTS_FOLDER,
            pool=POOL_CPU,
            multiple_outputs=True,
        )
        train = RayJobOperator(
            task_id="train",
            job=dag_id,
            settings="{{ params.settings }}",
            settings_class=SETTINGS[kind],
            overrides={"out": plan["run"], "snapshot": freeze.output["snapshot"], "steps": plan["steps"]},
            results=RESULTS_FOLDER,
            pool=POOL_GPU,
        )
        publish = RayJobOperator(
            task_id="publish",
            job="publish_model",
            settings="{{ params.publish }}",
            settings_class=PublishSettings,
            overrides=plan["publish"],
            results=RESULTS_FOLDER,
            pool=POOL_GPU,
        )
        train >> [remember(plan["seen"]), publish]
        announce.override(outlets=[model])(model.name, publish.output)
    return dag


def _documentation(kind: Kind, title: str) -> str:
    name = kind.replace("-", "_")
    return DOCUMENTATION.format(title=title, kind=kind, name=name, cpu=POOL_CPU, gpu=POOL_GPU, retries=TASK_DEFAULTS["retries"])


def _params(dag_id: str) -> dict[str, Param]:
    return {
        "settings": settings_param(dag_id),
        "publish": Param(
            f"{SETTINGS_FOLDER}/publish.yaml",
            type="string",
            minLength=1,
            title="Publishing",
            description="Path or URI of the YAML file that says where models are published; Airflow and the Ray cluster must both reach it.",
            section="Settings",
        ),
        "selection": Param(
            os.environ.get("DUBMILL_SELECTION", ""),
            type=["null", "string"],
            title="Selection",
            description="Path or URI of a YAML file of `dubmill corpus snapshot --settings`; nothing: the default selection.",
            section="Settings",
        ),
        "min_new_clips": Param(
            MIN_NEW_CLIPS,
            type="integer",
            minimum=1,
            title="New clips",
            description="By how many clips the corpus must have grown since the last training.",
            section="Settings",
        ),
        "hold_back": Param(
            default=False,
            type="boolean",
            title="Hold back",
            description="A run by hand, too, waits for so many new clips.",
            section=THIS_RUN,
        ),
        "steps": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Steps",
            description="Steps of this training. Nothing: as the settings file says.",
            section=THIS_RUN,
        ),
    }


@task(inlets=[CORPUS], multiple_outputs=True)  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def gate(
    kind: Kind,
    settings: str,
    publish: str,
    selection: str,
    *,
    params: Any = None,
    dag_run: Any = None,
    inlet_events: Any = None,
    asset_state_store: Any = None,
) -> dict[str, Any]:
    """What the jobs of this run are given, when the corpus has grown by enough; skipped otherwise, and with it all that follows.

    `seen` is for `remember`: the corpus counts as trained on when it was.
    """
    plan = planned(kind, settings, publish, selection, dag_run.run_id, params["steps"])
    store = plan["freeze"]["store"]
    clips = clips_in(store, inlet_events[CORPUS])
    memory = asset_state_store[CORPUS]
    last = (memory.get(dag_run.dag_id) or {}).get(store, {})
    before = clips_before(last, dag_run.run_id)
    missing = params["min_new_clips"] - (clips - before)
    if missing <= 0 or (dag_run.run_type == BY_HAND and not params["hold_back"]):
        return {**plan, "seen": {"store": store, "clips": clips, "before": before}}
    # A corpus from which somebody was taken out grows from there on.
    remember_store(memory, dag_run.dag_id, store, {**last, "clips": min(before, clips)})
    raise AirflowSkipException(f"The corpus {store} has {clips} clips, {before} at the last training: {missing} new ones are missing to train again.")


@task(inlets=[CORPUS])  # type: ignore[untyped-decorator]
def remember(seen: dict[str, Any], *, dag_run: Any = None, asset_state_store: Any = None) -> None:
    """Counts the corpus as trained on, with the clips that it had at this run's gate."""
    now = {"clips": seen["clips"], "run_id": dag_run.run_id, "before": seen["before"]}
    remember_store(asset_state_store[CORPUS], dag_run.dag_id, seen["store"], now)


def remember_store(memory: Any, dag_id: str, store: str, now: dict[str, Any]) -> None:
    """Keeps what a DAG knows of one store, beside what it knows of others."""
    memory.set(dag_id, {**(memory.get(dag_id) or {}), store: now})


def planned(kind: Kind, settings: str, publish: str, selection: str, run_id: str, steps: int | None = None) -> dict[str, Any]:
    """The settings of this run's jobs that are not in their files: of `freeze`, of `publish`, the `steps`, and the folder of the `run`.

    Raises AirflowFailException for settings of any of the jobs that cannot be used.
    """
    training = _checked(SETTINGS[kind], settings)
    run = f"{training.out.rstrip('/')}/{re.sub(r'[^A-Za-z0-9._-]+', '-', run_id)}"
    _checked(ModelsSettings, publish)
    # Without a name: a snapshot never changes, and that of a grown corpus is another one.
    chosen = _checked(SnapshotSettings, selection, {"name": ""}).model_dump(mode="json") if selection else {}
    return {
        "run": run,
        "steps": steps or training.steps,
        "freeze": {"store": training.store, "snapshot": training.snapshot, "selection": chosen},
        "publish": {"kind": kind, "run": run, "store": training.store},
    }


def _checked(kind: type[AnySettings], location: str, overrides: dict[str, Any] | None = None) -> AnySettings:
    try:
        return check_settings(kind, {**read_settings(location), **(overrides or {})})
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error


def clips_in(store: str, events: Any) -> int:
    """Clips of a store as the newest of its events says; 0 when none of the newest events is of this store."""
    recent = (event.extra for event in events.ascending(ascending=False).limit(EVENTS_LOOKED_AT))
    return next((extra.get("corpus_clips", 0) for extra in recent if extra.get("store", "").rstrip("/") == store.rstrip("/")), 0)


def clips_before(remembered: dict[str, Any], run_id: str) -> int:
    """Clips at the last training. A run that passed and is cleared is measured against what was there before it."""
    clips: int = remembered.get("before" if remembered.get("run_id") == run_id else "clips", 0)
    return clips


@task  # type: ignore[untyped-decorator]
def announce(model: str, published: dict[str, Any], *, outlet_events: Any = None) -> None:
    """Updates the asset of a model that was published; skipped, with the sentence that says by how much it lost, when it was not."""
    if not published["published"]:
        raise AirflowSkipException(published["sentence"])
    outlet_events[Asset(model)].extra = published
