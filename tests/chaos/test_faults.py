"""Three faults of the table (`make chaos` has them all), each met by a run of real jobs under real Airflow; one set-up for the three.

`make test` runs them by themselves: what is killed comes again within limits that other tests at every core would use up.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.case import Case, play
from tests.chaos.rows import Row, Undisturbed, row_of
from tests.chaos.scenarios import run_failed, task_cleared, triggerer_killed
from tests.chaos.stage import Stage, services, stage
from tests.chaos.work import Material, Size

LIMIT_S = 480.0
STOP_LIMIT_S = 60.0
"""A stop takes about three seconds, and several times that on a machine with every core at work."""
SIZE = Size(clips=4, clip_s=0.6, dubs=4, speech_s=0.3)

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not services.AIRFLOW.exists(), reason="needs the control environment beside the data one"),
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.fixture(scope="module")
def material(ready: Stage) -> Material:
    return Material(ready, SIZE)


def row_after(ready: Stage, material: Material, act: Callable[[Case], None]) -> Row:
    """What came of a fault, held against what the footage and the list should come to."""
    case = play(ready, material, act.__name__.replace("_", "-"), act, LIMIT_S)
    return row_of(case, act.__name__, Undisturbed(material.expected, {}))


@pytest.mark.parametrize(("fault", "jobs_a_task"), [(triggerer_killed, 1), (task_cleared, 2)])
def test_a_fault_costs_time_and_nothing_else(ready: Stage, material: Material, fault: Callable[[Case], None], jobs_a_task: int) -> None:
    row = row_after(ready, material, fault)
    assert row.is_as_promised, row
    assert row.submitted == {"ingest_corpus": jobs_a_task, "bulk_dubbing": jobs_a_task}


def test_a_run_marked_failed_stops_its_jobs_and_a_later_run_does_the_rest(ready: Stage, material: Material) -> None:
    row = row_after(ready, material, run_failed)
    assert row.is_as_promised, row
    assert row.most_alive == 1
    assert row.recovered_s is not None
    assert row.recovered_s < STOP_LIMIT_S
