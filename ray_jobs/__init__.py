"""How a task is spread over many things on a cluster. Each job runs as `python -m ray_jobs.NAME --settings URI`."""

import os

from schemas.job_log import LOG_VARIABLE
from tasks.patient_threads import let_waiting_threads_sleep

let_waiting_threads_sleep()
# Before Ray is imported, which reads them then.
os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # a job's log is read in files and pages, which show colours as signs
if os.environ.get(LOG_VARIABLE) == "json":
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # lines that differ in an id alone would be counted instead of shown
