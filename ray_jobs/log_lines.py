"""Log lines of jobs and of their workers on other nodes: plain for people, or one JSON object a line for machines.

Tasks log by the standard library and know nothing of this. What a line belongs to comes from two places: the ids of the job from the
environment, which Ray hands on to a job's workers, and those of one batch, source, clip or dub from where that begins (`structlog.contextvars`).
The lines `progress`, `result` and `error` (`schemas.job_log`) are no log lines: they stay as they are.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from schemas.job_log import DAG_RUN_VARIABLE, LOG_VARIABLE, SUBMISSION_VARIABLE
from schemas.locations import without_secrets

JOB_IDS = {"submission": SUBMISSION_VARIABLE, "dag_run": DAG_RUN_VARIABLE}
"""Fields of a line by the environment variables that give them."""
SHOWN_IDS = ("batch", "source", "clip_id", "job_id")
"""Ids of a piece of work, which plain lines end with; those of the job are the same in all lines of a log."""

Event = MutableMapping[str, Any]


def configure_logs(job: str) -> None:
    """Sends the log lines of this process, from level INFO on, to standard error, with the ids of the job; once a process.

    job: the kind of the job, as its module is called.
    """
    root = logging.getLogger()
    if any(isinstance(handler.formatter, ProcessorFormatter) for handler in root.handlers):
        return
    for other in [handler for handler in root.handlers if type(handler).__module__.startswith("ray.")]:
        root.removeHandler(other)  # Ray Train's would write each line twice more, secrets and all
    handler = _StandardError()
    handler.setFormatter(formatter(job, os.environ))
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class _StandardError(logging.StreamHandler[Any]):
    """Standard error as it is at each line: whoever puts another in its place gets the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        self.setStream(sys.stderr)
        super().emit(record)


def formatter(job: str, environment: Mapping[str, str]) -> logging.Formatter:
    """What makes a line of a log record: plain, or JSON where LOG_VARIABLE asks for it."""
    ids = {name: environment[variable] for name, variable in JOB_IDS.items() if environment.get(variable)} | {"job": job}
    is_json = environment.get(LOG_VARIABLE) == "json"

    def add_ids(_logger: object, _method: str, event: Event) -> Event:
        return {**ids, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [structlog.processors.JSONRenderer(ensure_ascii=False, default=str)] if is_json else [plain_line]
    clean: list[Processor] = [ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, hide_secrets]
    return ProcessorFormatter(foreign_pre_chain=shared, processors=[*clean, *last])


def hide_secrets(_logger: object, _method: str, event: Event) -> Event:
    """The same without what URIs may hold of secrets, at any depth."""
    return {name: _without_secrets(value) for name, value in event.items()}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {name: _without_secrets(one) for name, one in value.items()}
    return [_without_secrets(one) for one in value] if isinstance(value, list | tuple | set | frozenset) else value


def plain_line(_logger: object, _method: str, event: Event) -> str:
    """`LEVEL logger: text [ids]`, and a trace below it where there is one."""
    ids = " ".join(f"{name}={event[name]}" for name in SHOWN_IDS if name in event)
    line = f"{str(event['level']).upper()} {event['logger']}: {event['event']}{f' [{ids}]' if ids else ''}"
    return f"{line}\n{event['exception']}" if "exception" in event else line
