"""The DAG `release_dubs`: what people decided in the review room is done."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fsspec
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags.defaults import POOL_CPU, RESULTS_FOLDER, SETTINGS_FOLDER, START_DATE, TASK_DEFAULTS, deadline_of, settings_param
from dags.operators.ray_job import RayJobOperator
from schemas.errors import SettingsError
from schemas.locations import reachable, without_secrets
from schemas.review import ApprovedDub, ReleaseOutcome
from schemas.settings import ReleaseSettings, check_settings, read_settings

if TYPE_CHECKING:
    from dags.review_room.database import Database
    from dags.review_room.verdicts import ClaimedVerdict

log = logging.getLogger(__name__)

LIST_SUFFIXES = (".csv", ".jsonl", ".parquet")

DOCUMENTATION = f"""
### What people decided in the review room is done
1. **`claim_verdicts`** takes the verdicts that count and were not followed yet. Of the approved dubs it writes a list for the Ray job, of
   those to be redone a job list a batch, with the settings that the reviewers chose, into the folder of lists that `bulk_dubbing` reads.
   It is skipped when there is nothing to do.
2. **`release`** (Ray job `ray_jobs.release_dubs`) copies the approved dubs to `<release>/<batch>/` and writes a record beside each, with who
   approved it. The originals stay where they are. **`to_release`** and **`to_redo`** only hand on what `claim_verdicts` gave.
3. **`redo`** starts `bulk_dubbing`, where there is a list for it. What it makes is a batch of its own, named after the list.
4. **`settle`** notes what was done. A dub that could not be copied is said in its log, stays open and is tried again by the next run; the approval
   of one that was made anew since is over, and the new one waits for a verdict of its own.

* **Schedule:** none unless the environment variable `DUBMILL_RELEASE_SCHEDULE` gives one, for example `*/10 * * * *`.
* **Parameter `settings`:** a YAML file with `release` (where approved dubs go) and `lists` (what `jobs` names in `bulk_dubbing.yaml`: a folder;
  where that names another, redos fail here).
* **Running it again** is safe: a claim keeps its name until it is settled, so the same lists are written under the same names, and a dub
  that is recorded as released is not copied again. A run that tries again claims nothing new: that is the next run's. Of each job the last
  verdict is followed, also when an earlier one was claimed already. A verdict that is changed after it was followed is followed anew, as the new one; what was
  released before a rejection stays released until somebody takes it away. A redo whose `out` is an s3:// URI replaces what is there.
* **What was approved is what goes out:** a file that was changed since somebody looked at it is not released, nor one that the gate holds by
  now; both are said in `settle`'s log.
* **The room's database** is that of `DUBMILL_REVIEW_DATABASE_URL`, the same for Airflow's API servers and its workers.
* **Pool:** `release` takes a slot of `{POOL_CPU}`.
* **When it fails:** the log of `release` ends with the sentence of its job and that job's last lines. Each task is tried again
  {TASK_DEFAULTS["retries"]} times, unless its settings are at fault. After that mend what the sentence names, and clear the failed task or wait for
  the next run: verdicts that were claimed and not settled are claimed again.
"""


@task(multiple_outputs=True)  # type: ignore[untyped-decorator]  # Airflow is not in the environment that checks types
def claim_verdicts(settings: str, *, dag_run: Any = None) -> dict[str, Any]:
    """What the run has to do: `release` and `redo`, each with one entry or none, and the verdicts that are followed without a job."""
    from dags.review_room.verdicts import claim

    checked = _checked(settings)
    with _room_database() as database:
        claimed = claim(database, dag_run.run_id)
    if not claimed:
        raise AirflowSkipException("No verdict waits to be followed.")
    approved = [one for one in claimed if one.given.verdict == "approve"]
    redone = [one for one in claimed if one.given.verdict == "redo"]
    if redone:
        _require_that_lists_are_read(checked.lists)
    lists = [_write_list(checked.lists, batch, claim_id, rows) for (batch, claim_id), rows in _grouped(redone).items()]
    log.info("%d approved, %d to redo in %d lists, %d rejected.", len(approved), len(redone), len(lists), len(claimed) - len(approved) - len(redone))
    return {
        "release": [{"approved": _write_approved(dag_run.run_id, approved)}] if approved else [],
        "redo": [f"redo__{_short(dag_run.run_id)}"] if lists else [],
        "followed": [[one.batch, one.given.number] for one in claimed if one.given.verdict != "approve"],
    }


@contextmanager
def _room_database() -> Iterator["Database"]:
    from dags.review_room.configuration import database_url
    from dags.review_room.database import opened  # with Alembic, which the DAG's parsing does not need

    try:
        with opened(database_url()) as database:
            yield database
    except SettingsError as error:
        raise AirflowFailException(str(error)) from error


def _require_that_lists_are_read(lists: str) -> None:
    """Fails where `bulk_dubbing` looks elsewhere: what was asked for would wait for ever. Not known where its settings are not at their place."""
    settings = f"{SETTINGS_FOLDER}/bulk_dubbing.yaml"
    try:
        jobs = read_settings(settings).get("jobs")
    except SettingsError as error:
        log.warning("whether bulk_dubbing reads %s is not known: %s", lists, error)
        return
    if str(jobs).rstrip("/") != lists.rstrip("/"):
        raise AirflowFailException(
            f"Dubs are to be made again, and their lists go to {without_secrets(lists)}, but {settings} names {without_secrets(str(jobs))} as `jobs`: "
            "make both the same folder or prefix, then clear this task."
        )


def job_row(claimed: "ClaimedVerdict") -> dict[str, Any]:
    """The row of a job list that makes a dub again: its own row, with what the reviewer changed."""
    row = claimed.subject.job.model_dump(mode="json", exclude={"settings"}, exclude_defaults=True)
    return {**row, **claimed.subject.job.settings, **claimed.given.settings}


def _write_list(lists: str, batch: str, claim_id: str, claimed: list["ClaimedVerdict"]) -> str:
    """Drops a job list for a batch's redos. One that is there is the same one, of an earlier try."""
    if lists.lower().endswith(LIST_SUFFIXES):
        raise AirflowFailException(f"`lists` names one list, {lists}; redos need a folder or prefix of lists, and `jobs` of bulk_dubbing must name the same.")
    stem = next((batch.removesuffix(suffix) for suffix in LIST_SUFFIXES if batch.endswith(suffix)), batch)
    location = f"{lists.rstrip('/')}/{stem[:80]}.redo-{_short(claim_id)}.jsonl"
    _write_once(location, "".join(f"{json.dumps(job_row(one), ensure_ascii=False, sort_keys=True)}\n" for one in claimed))
    return location


def _write_approved(run_id: str, approved: list["ClaimedVerdict"]) -> str:
    location = f"{RESULTS_FOLDER}/release-{_short(run_id)}.approved.jsonl"
    dubs = (
        ApprovedDub(
            batch=one.batch,
            number=one.given.number,
            job_id=one.given.job_id,
            fingerprint=one.given.fingerprint,
            dub=one.subject.dub,
            version=one.subject.version,
            folder=one.subject.folder,
            name=one.subject.name,
            approved_by=one.given.author,
            approved_at=datetime.fromtimestamp(one.given.given_at_s, UTC).isoformat(),
        )
        for one in approved
    )
    _write_once(location, "".join(f"{dub.model_dump_json()}\n" for dub in dubs))
    return location


def _write_once(location: str, content: str) -> None:
    try:
        with reachable(location, SettingsError):
            filesystem, path = fsspec.core.url_to_fs(location)
            if filesystem.exists(path):
                return
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            part = f"{path.rpartition('/')[0]}/.{path.rpartition('/')[2]}.part"  # lists whose names begin with a dot are left alone
            filesystem.pipe_file(part, content.encode())
            filesystem.mv(part, path)
    except (OSError, SettingsError) as error:
        raise AirflowException(f"{location} cannot be written: {error}") from error


def _grouped(claimed: Iterable["ClaimedVerdict"]) -> dict[tuple[str, str], list["ClaimedVerdict"]]:
    groups: dict[tuple[str, str], list[ClaimedVerdict]] = {}
    for one in claimed:
        groups.setdefault((one.batch, one.claim), []).append(one)
    return groups


def _short(name: str) -> str:
    """A run's id as a part of a file's name."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _checked(location: str) -> ReleaseSettings:
    try:
        return check_settings(ReleaseSettings, read_settings(location))
    except SettingsError as error:
        raise AirflowFailException(f"{location}: {error}") from error


@task  # type: ignore[untyped-decorator]
def each(entries: list[Any]) -> list[Any]:
    """The entries themselves: Airflow maps over what a task returns, not over a part of it."""
    return entries


@task(trigger_rule="none_failed_min_one_success")  # type: ignore[untyped-decorator]
def settle(followed: list[list[Any]], released: Any) -> dict[str, int]:
    """Notes which verdicts were followed; dubs that could not be released stay open, but for those whose file is another one by now."""
    from dags.review_room.verdicts import settle as settle_verdicts

    done = [(str(batch), int(number)) for batch, number in followed or ()]
    missing: dict[str, str] = {}
    for summary in released or ():
        with fsspec.open(summary["outcome"], "rb") as file:
            outcome = ReleaseOutcome.model_validate_json(file.read())
        done += (*outcome.released, *outcome.outdated)
        missing |= outcome.missing
    for name, sentence in missing.items():
        log.warning("%s was not released: %s", name, sentence)
    with _room_database() as database:
        settle_verdicts(database, done)
    return {"settled": len(done), "missing": len(missing)}


with DAG(
    "release_dubs",
    description="What people decided in the review room is done",
    schedule=os.environ.get("DUBMILL_RELEASE_SCHEDULE") or None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,  # what another run has claimed and not settled is taken for a failed one's
    allowed_run_types=["scheduled", "manual", "operator_triggered"],  # a backfill has runs side by side, whatever max_active_runs says
    default_args=TASK_DEFAULTS,
    deadline=deadline_of("release_dubs"),
    params={"settings": settings_param("release_dubs")},
    tags=["dubmill", "dubbing", "review"],
    doc_md=DOCUMENTATION,
) as dag:
    plan = claim_verdicts("{{ params.settings }}")
    release = RayJobOperator.partial(
        task_id="release", job="release_dubs", settings="{{ params.settings }}", settings_class=ReleaseSettings, results=RESULTS_FOLDER, pool=POOL_CPU
    ).expand(overrides=each.override(task_id="to_release")(plan["release"]))
    starts = TriggerDagRunOperator.partial(task_id="redo", trigger_dag_id="bulk_dubbing", skip_when_already_exists=True)
    redo = starts.expand(trigger_run_id=each.override(task_id="to_redo")(plan["redo"]))
    redo >> settle(plan["followed"], release.output)
