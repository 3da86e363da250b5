"""Telling people, by a webhook, of a task that failed and of a run that takes too long.

The webhook is the URL in DUBMILL_FAILURE_WEBHOOK. It is read when there is something to tell, by whichever component tells it (a
worker, the dag-processor, the triggerer), and is in no DAG, database or log: such a URL often is its own password.
"""

import asyncio
import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import quote

from airflow.sdk.configuration import conf

from schemas.locations import without_secrets

WEBHOOK_VARIABLE = "DUBMILL_FAILURE_WEBHOOK"
TIMEOUT_S = 10.0
"""For all of it, from the look-up of the name to the answer: nobody waits long for a webhook that is down."""
LONGEST_SENTENCE = 1000
"""Characters of an error that are told; the rest is in the log."""
UNFINISHED = ("queued", "running")
"""States of a run that goes on."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """The JSON object that is posted. text: one sentence for people, under the name that chat programs look for; what does not apply is null."""

    event: Literal["task-failed", "run-is-late"]
    text: str
    dag: str
    run: str
    task: str | None
    map_index: int | None
    attempt: int | None
    error: str | None
    log_url: str


def tell_of_failure(context: Any) -> None:
    """The `on_failure_callback` of every task: after its last try, whose outcome this never changes."""
    ti = context["ti"]
    error = _sentence(context.get("exception"))
    mapped = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
    task = ti.task_id if mapped is None else f"{ti.task_id}[{mapped}]"
    text = f"{ti.dag_id}: {task} failed in run {ti.run_id}: {error}"
    asyncio.run(post(Told("task-failed", text, ti.dag_id, ti.run_id, ti.task_id, mapped, ti.try_number, error, ti.log_url)))


async def tell_of_delay(hours: float, context: dict[str, Any] | None = None) -> None:
    """The callback of a deadline, in the triggerer: a run goes on after so many hours.

    Airflow 3.3 calls it for a run that failed before its deadline, too; there is nothing to tell of that.
    """
    run = (context or {}).get("dag_run") or {}
    if run.get("state") not in UNFINISHED:
        return
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    address = f"{conf.get('api', 'base_url', fallback='http://localhost:8080').rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}"
    await post(Told("run-is-late", f"{dag_id}: run {run_id} takes longer than {hours:g} h.", dag_id, run_id, None, None, None, None, address))


async def post(told: Told) -> None:
    """Posts to the webhook, if there is one. That it could not be done is said in the log, without the URL, and is no error."""
    url = os.environ.get(WEBHOOK_VARIABLE)
    if not url:
        return
    import httpx  # seldom needed, and the DAGs are parsed often

    for name in ("httpx", "httpcore"):  # they log URLs
        logging.getLogger(name).setLevel(logging.WARNING)
    content = json.dumps(asdict(told)).encode()
    try:
        async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            response = await client.post(url, content=content, headers={"Content-Type": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # whose texts may hold the URL
        log.warning("The failure webhook could not be told: %s.", type(error).__name__)
        return
    if not response.is_success:
        log.warning("The failure webhook did not take it: it answers with status %d.", response.status_code)


def _sentence(error: object) -> str:
    """The first line of an error: ours are one sentence there; what follows are lines of a log, which stay where they are."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    if lines:
        return without_secrets(lines[0])[:LONGEST_SENTENCE]
    return type(error).__name__ if error is not None else "Its process ended without a word."
