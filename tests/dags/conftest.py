"""These tests run in the control environment (Airflow): `make test` gives them .venv-airflow."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# Airflow reads its settings when it is imported: before any test.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="dubmill-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Airflow keeps a DAG as it is for half a minute; here one test may put it there with a schedule just after another had it without.
os.environ["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] = "0"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(REPOSITORY / "dags")
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{os.environ['AIRFLOW_HOME']}/airflow.db"
for name in [name for name in os.environ if name.startswith("DUBMILL_")]:
    del os.environ[name]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves these tests out of a run in the data environment, which has no Airflow."""
    try:
        import airflow.sdk  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        return True
    return None


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's own, one for all tests of a session: making it takes longer than most of them."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="module")
def scheduled(database: None, repository: Path) -> Iterator[None]:
    """All DAGs in that database, with schedules and deadlines."""
    from tests.dags.scheduled_dags import scheduled_dags

    with scheduled_dags(repository):
        yield
