"""The faults: each is done to a run that ingests and a run that dubs, both at work at once, and both are to end as if nothing had been."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.airflow_api import ENDED
from tests.chaos.case import JOB_TASKS, UNDER_WAY_LIMIT_S, Case, Run
from tests.chaos.processes import named, send
from tests.chaos.stage import StageError

STORE_FAILS_S = 60.0
STEP_S = 0.05
"""For so long a task's process runs between two looks whether its job has been submitted."""
STEPS_LIMIT_S = 120.0
INTERVAL = "2025-06-01T00:00:00Z"
ACTORS = {"ingest_corpus": "ray::BatchActor", "bulk_dubbing": "ray::DubActor"}
"""What the worker processes of each DAG's job call themselves."""


@dataclass(frozen=True)
class Scenario:
    """A fault. title: as in the table. workers: actors that ingest."""

    name: str
    title: str
    act: Callable[[Case], None]
    workers: int = 1


def undisturbed(case: Case) -> None:
    """Nothing happens."""
    case.begin()
    case.wait_for_end()


def task_process_killed(case: Case) -> None:
    """Each task's process is killed when its job is submitted and the task not yet deferred; the deferred task then has none to be killed."""
    for dag_id in ("ingest_corpus", "bulk_dubbing"):
        [run] = case.begin(dag_id)
        _kill_once_submitted(case, run)
    case.wait_until_under_way()
    alone = [run.dag_id for run in case.runs if not _task_processes(case, run)]
    case.notes.append(f"while deferred {'neither has' if len(alone) == len(case.runs) else 'NOT both are without'} a process")
    case.wait_for_end()


def triggerer_killed(case: Case) -> None:
    """The triggerer's processes are killed, and it is started again at once."""
    _killed_and_started(case, "triggerer")


def scheduler_killed(case: Case) -> None:
    """The scheduler is killed with all its workers, and started again at once."""
    _killed_and_started(case, "scheduler")


def ray_head_restarted(case: Case) -> None:
    """The Ray head is killed with all jobs and their history, and started again as soon as its port is free."""
    case.begin()
    case.wait_until_under_way()
    case.stage.kill("ray")
    case.stage.restart_ray()
    case.wait_for_end()


def raylet_killed(case: Case) -> None:
    """Of each job in turn: the raylet of a second node is killed while it has a worker of that job, and a new node joins."""
    for dag_id, actor in ACTORS.items():
        node = case.stage.start_second_node()
        try:
            [run] = case.begin(dag_id)
            _wait_for_actor(case, run, node, actor)
            for raylet in named(case.stage.processes_of(node), lambda line: line.partition(" ")[0].endswith("/raylet")):
                send(raylet, signal.SIGKILL)
        finally:
            case.stage.remove(node)
    node = case.stage.start_second_node()
    case.wait_for_end()
    case.stage.remove(node)


def _wait_for_actor(case: Case, run: Run, node: str, actor: str) -> None:
    """Waits until a node has a worker of a run's job, and notes whether it came to that before the run was over."""

    def is_there() -> bool:
        return bool(named(case.stage.processes_of(node), lambda line: line.startswith(actor)))

    case.wait(lambda: is_there() or case.state(run) in ENDED, UNDER_WAY_LIMIT_S, f"a second node has a {actor}")
    case.notes.append(f"it had {'a' if is_there() else 'no'} {actor.removeprefix('ray::')}")


def worker_killed(case: Case) -> None:
    """A worker process of each job is killed."""
    case.begin()
    case.wait_until_under_way()
    for name in ACTORS.values():
        workers = named(case.stage.processes_of("ray"), lambda line, name=name: line.startswith(name))
        for process in workers[:1]:
            send(process, signal.SIGKILL)
        if not workers:
            case.notes.append(f"no {name} was left to be killed")
    case.wait_for_end()


def store_failing(case: Case) -> None:
    """For a minute the object store answers no request."""
    case.begin()
    case.wait_until_under_way()
    failed = case.stage.bad_days.failed
    case.stage.bad_days.are_now = True
    time.sleep(STORE_FAILS_S)
    case.stage.bad_days.are_now = False
    case.notes.append(f"{case.stage.bad_days.failed - failed} requests in vain")
    case.wait_for_end()


def task_cleared(case: Case) -> None:
    """Both tasks are cleared while deferred: the old jobs stop, new ones begin."""
    runs = case.begin()
    case.wait_until_under_way()
    for run in runs:
        case.stage.airflow.clear(run.dag_id, run.run_id, JOB_TASKS[run.dag_id])
    case.wait_for_end()


def run_failed(case: Case) -> None:
    """Both runs are marked failed: their jobs stop and what was done stays. Then both are begun anew. Seconds: until no job was alive."""
    runs = case.begin()
    case.wait_until_under_way()
    for run in runs:
        case.stage.airflow.mark_failed(run.dag_id, run.run_id)
    case.recovered_s = case.wait_until_no_job_is_alive()
    case.notes.append(f"stopped in {case.recovered_s:.1f} s, then run anew")
    case.begin()
    case.wait_for_end()


def two_runs(case: Case) -> None:
    """Two runs of one interval are asked for, and one more by hand at the same moment."""
    refused = 0
    for dag_id in ACTORS:
        case.begin(dag_id, interval=INTERVAL)
        refused += not case.begin(dag_id, interval=INTERVAL)
        case.begin(dag_id)
    case.notes.append(f"of one interval Airflow refused the second run of {refused} DAGs; one more by hand")
    case.wait_for_end()


SCENARIOS = (
    Scenario("task-killed", "task process killed between submission and deferral", task_process_killed),
    Scenario("triggerer-killed", "triggerer killed", triggerer_killed),
    Scenario("scheduler-killed", "scheduler killed with its workers", scheduler_killed),
    Scenario("ray-restarted", "Ray head killed and started again", ray_head_restarted),
    Scenario("raylet-killed", "raylet of a second node killed, a new node joins", raylet_killed, workers=4),
    Scenario("worker-killed", "a worker process of each job killed", worker_killed),
    Scenario("store-failing", f"object store failing for {STORE_FAILS_S:.0f} s", store_failing),
    Scenario("task-cleared", "task cleared in the UI", task_cleared),
    Scenario("run-failed", "DAG run marked failed, then run anew", run_failed),
    Scenario("two-runs", "two runs of one interval, and one by hand at once", two_runs),
)


def _killed_and_started(case: Case, component: str) -> None:
    case.begin()
    case.wait_until_under_way()
    case.stage.kill(component)
    case.stage.start_again(component)
    case.wait_for_end()


def _kill_once_submitted(case: Case, run: Run) -> None:
    """Lets the process of a task run in steps until its job is submitted, and kills it then, before it can say that it defers."""
    task, deadline_s = f"{run.dag_id}.{JOB_TASKS[run.dag_id]}", time.monotonic() + STEPS_LIMIT_S
    while time.monotonic() < deadline_s:
        processes = _task_processes(case, run)
        _send_all(processes, signal.SIGSTOP)
        if case.watch.is_submitted_now(task):
            _send_all(processes, signal.SIGKILL)
            case.notes.append(f"{run.dag_id}: {'killed' if processes else 'was deferred already'}")
            return
        _send_all(processes, signal.SIGCONT)
        time.sleep(STEP_S)
    raise StageError(f"The task of {run.dag_id} submitted no job within {STEPS_LIMIT_S:.0f} s.")


def _send_all(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        send(process, number)


def _task_processes(case: Case, run: Run) -> list[int]:
    """The processes that run a run's job task; they name themselves by its id."""
    tasks = case.job_tasks(run)
    return named(case.stage.processes_of("scheduler"), lambda line: any(line == f"airflow worker -- {task.id}" for task in tasks))
