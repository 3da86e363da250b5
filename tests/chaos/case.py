"""One scenario as it goes: its runs are begun, it is disturbed, its runs are waited for, and what is left is counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.airflow_api import ENDED, TaskState
from tests.chaos.job_watch import JobWatch
from tests.chaos.stage import Stage, StageError, wait_until
from tests.chaos.work import Material, Work, batches_there, dubs_there

JOB_TASKS = {"ingest_corpus": "ingest", "bulk_dubbing": "dub"}
"""The task of each DAG that is a Ray job."""
UNDER_WAY_LIMIT_S = 180.0
LOOK_EVERY_S = 1.0
TELLING = ("warning", "error", "critical")


@dataclass(frozen=True)
class Run:
    """A DAG run, and when it was begun."""

    dag_id: str
    run_id: str
    began_s: float


@dataclass
class Case:
    """A scenario at work. limit_s: longest that its runs may take."""

    stage: Stage
    watch: JobWatch
    work: Work
    limit_s: float
    runs: list[Run] = field(default_factory=list)
    ended_s: dict[str, float] = field(default_factory=dict)
    """Of each run that is over, the seconds from its beginning."""
    notes: list[str] = field(default_factory=list)
    recovered_s: float | None = None
    """Set by a scenario whose recovery is not the run's end."""

    def begin(self, *dag_ids: str, interval: str | None = None) -> list[Run]:
        """Begins a run of each DAG, both when none is named; those that Airflow does not refuse."""
        begun = []
        for dag_id in dag_ids or JOB_TASKS:
            run_id = self.stage.airflow.begin(dag_id, interval, settings=self.work.settings[dag_id])
            if run_id is not None:
                begun.append(Run(dag_id, run_id, time.monotonic()))
        self.runs += begun
        return begun

    def wait_until_under_way(self) -> None:
        """Waits until every run's job has brought something and its task needs no process any more."""
        for run in list(self.runs):
            self.wait(lambda run=run: self.has_something(run.dag_id) or self.state(run) in ENDED, UNDER_WAY_LIMIT_S, f"{run.dag_id} brings something")
        for run in list(self.runs):
            self.wait(lambda run=run: self._is_deferred(run), UNDER_WAY_LIMIT_S, f"the task of {run.dag_id} waits without a process")
        self.notes += [f"{run.dag_id} was over before the fault" for run in self.runs if self.state(run) in ENDED]

    def _is_deferred(self, run: Run) -> bool:
        return all(task.state != "running" for task in self.job_tasks(run))

    def has_something(self, dag_id: str) -> bool:
        """Whether a first batch or a first dub is there."""
        return bool(batches_there(self.work) if dag_id == "ingest_corpus" else dubs_there(self.work))

    def wait_for_end(self) -> None:
        """Waits until every run is over and none of its jobs is alive."""
        began_s = time.monotonic()
        while left := [run for run in self.runs if run.run_id not in self.ended_s]:
            for run in left:
                if self.state(run) in ENDED:
                    self.ended_s[run.run_id] = time.monotonic() - run.began_s
            if time.monotonic() - began_s > self.limit_s:
                self.notes.append(f"not over after {self.limit_s:.0f} s: {', '.join(run.dag_id for run in left)}")
                return
            time.sleep(LOOK_EVERY_S)
        self.wait_until_no_job_is_alive()

    def wait_until_no_job_is_alive(self) -> float:
        """Seconds until Ray has no job of these runs any more, and no driver lives."""
        return self.wait(lambda: not self.watch.alive, self.limit_s, "no job is alive any more")

    def wait(self, is_so: Callable[[], bool], limit_s: float, what: str) -> float:
        """As `wait_until`, at a pace that leaves the machine to the jobs."""
        return wait_until(is_so, limit_s, what, pause_s=LOOK_EVERY_S / 2)

    def state(self, run: Run) -> str:
        """The state of a run."""
        return self.stage.airflow.run_state(run.dag_id, run.run_id)

    def job_tasks(self, run: Run) -> list[TaskState]:
        """The tasks of a run that are Ray jobs."""
        return [task for task in self.stage.airflow.tasks(run.dag_id, run.run_id) if task.task_id == JOB_TASKS[run.dag_id]]

    @property
    def told(self) -> dict[str, str]:
        """Of each DAG the last warning or error in the log of a job task: what its user reads; of those without any nothing."""
        return {run.dag_id: text for run in self.runs if (text := self._told(run))}

    def _told(self, run: Run) -> str:
        logs = (line for task in self.job_tasks(run) for line in self.stage.airflow.log(run.dag_id, run.run_id, task))
        lines = [text for level, text in logs if level in TELLING and text.strip()]
        return lines[-1].strip().partition("\n")[0] if lines else ""


def play(stage: Stage, material: Material, name: str, act: Callable[[Case], None], limit_s: float, workers: int = 1) -> Case:
    """Lets a scenario play on a store and a list of its own, to its end. workers: actors that ingest."""
    work = material.work(name, workers)
    with JobWatch(stage.ray_url, stage.place) as watch:
        case = Case(stage, watch, work, limit_s)
        try:
            act(case)
        except StageError as error:
            case.notes.append(str(error))
        return case
