"""What every Ray job shares: its command line, its log lines and its exit code. Ray itself is not imported here."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from pydantic import BaseModel

from ray_jobs.log_lines import configure_logs
from schemas.errors import DubmillError
from schemas.job_log import ERROR_PREFIX, PROGRESS_PREFIX, RESULT_PREFIX
from schemas.settings import check_settings, read_settings
from tasks import places
from tasks.interruption import Interruption, interrupted_by_signals
from tasks.progress import Progress, ProgressLines

JobSettings = TypeVar("JobSettings", bound=BaseModel)


def job_main(settings_class: type[JobSettings], run: Callable[[JobSettings, Progress], BaseModel], arguments: Sequence[str] | None = None) -> None:
    """The `main` of a job: reads `--settings`, runs, prints the summary and writes it as JSON to `--result`.

    Ends the process with one sentence on standard error: with exit code 1 for whatever the user can mend, and with that of the signal
    when Ctrl-C or SIGTERM stops it, which is how Ray stops a job.
    """
    options = _parse(arguments)
    configure_logs(_name_of(run))
    try:
        with interrupted_by_signals():
            summary = _summary(options, settings_class, run)
    except DubmillError as error:
        _end(str(error), 1)
    except Interruption as interruption:
        _end(f"{interruption.sentence or 'Stopped'}.", interruption.exit_code)
    print(f"{RESULT_PREFIX}{summary}", flush=True)


def _name_of(run: Callable[..., BaseModel]) -> str:
    """The kind of a job: the name of its module."""
    spec = sys.modules["__main__"].__spec__ if run.__module__ == "__main__" else None
    return (spec.name if spec else run.__module__).rpartition(".")[2]


def _summary(options: argparse.Namespace, settings_class: type[JobSettings], run: Callable[[JobSettings, Progress], BaseModel]) -> str:
    """Runs, and gives the summary as JSON, which lies at `--result` too."""
    settings = check_settings(settings_class, read_settings(options.settings))
    summary = run(settings, ProgressLines(PROGRESS_PREFIX.strip(), stream=sys.stdout)).model_dump_json()
    if options.result:
        places.write_bytes(options.result, summary.encode())
    return summary


def _end(sentence: str, exit_code: int) -> NoReturn:
    print(f"{ERROR_PREFIX}{sentence}", file=sys.stderr, flush=True)
    sys.exit(exit_code)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A Ray job of dubmill: run it inside a Ray job, or by itself on this machine.")
    parser.add_argument("--settings", required=True, help="flat YAML file, a path or URI that this machine can read")
    parser.add_argument("--result", help="where the summary is written as JSON, a path or URI")
    return parser.parse_args(arguments)
