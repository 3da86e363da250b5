import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.job_watch import JobWatch
from tests.dags.operators.ray_stand_in import RayStandIn, StandInJob

PLACE = "s3://a-bucket-of-this-test"
TASK = "ingest_corpus.ingest"
RUN = "0123456789abcdef"
ALIVE_S = 1.0
WAIT_S = 20.0


def job(status: str) -> StandInJob:
    return StandInJob(entrypoint="", statuses=[status])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@contextmanager
def driver(submission_id: str, place: str = PLACE) -> Iterator[None]:
    """A process with the command of a job's driver."""
    sleeps = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", sleeps, "ray_jobs.ingest", "--result", f"{place}/results/{submission_id}.json"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_two_jobs_of_one_task_at_once_are_noticed_with_how_long_they_were() -> None:
    with RayStandIn() as ray, JobWatch(ray.url, PLACE) as watch:
        ray.jobs[f"{TASK}.{RUN}.g2.a1"] = job("RUNNING")
        wait_until(lambda: len(watch.alive) == 1)
        assert watch.jobs_of(TASK).most == 1
        ray.jobs[f"{TASK}.{RUN}.g3.a1"] = job("RUNNING")
        wait_until(lambda: len(watch.alive) == 2)
        time.sleep(ALIVE_S)
        ray.jobs[f"{TASK}.{RUN}.g2.a1"] = job("STOPPED")
        wait_until(lambda: len(watch.alive) == 1)
    seen = watch.jobs_of(TASK)
    assert (len(seen.submitted), seen.most) == (2, 2)
    assert ALIVE_S <= seen.overlap_s < ALIVE_S + WAIT_S


def test_two_runs_are_two_tasks_and_jobs_of_before_are_nobodys() -> None:
    with RayStandIn() as ray:
        ray.jobs[f"{TASK}.{RUN}.g0.a1"] = job("RUNNING")
        with JobWatch(ray.url, PLACE) as watch:
            for run in ("1" * 16, "2" * 16):
                ray.jobs[f"{TASK}.{run}.g2.a1"] = job("RUNNING")
            wait_until(lambda: len(watch.alive) == 2)
        seen = watch.jobs_of(TASK)
        assert (len(seen.submitted), seen.most, seen.overlap_s) == (2, 1, 0.0)


def test_a_driver_that_lives_is_alive_whatever_ray_says_and_that_of_another_place_is_not_ours() -> None:
    ours, others = f"{TASK}.{RUN}.g2.a1", f"{TASK}.{RUN}.g2.a2"
    with RayStandIn() as ray, JobWatch(ray.url, PLACE) as watch, driver(others, "s3://elsewhere"):
        ray.jobs[ours] = job("STOPPED")
        with driver(ours):
            wait_until(lambda: watch.alive == {ours})
        wait_until(lambda: not watch.alive)
    assert watch.jobs_of(TASK).submitted == {ours}
