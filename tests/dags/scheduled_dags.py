"""The DAGs in a database of Airflow, each with a schedule and a deadline, and runs of them that nobody has begun yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select

SCHEDULES = ("INGEST", "BULK", "RELEASE", "MAINTAIN", "RECONCILE")
DEADLINE_HOURS = 24.0
BUNDLE = "dags-folder"


@contextmanager
def scheduled_dags(repository: Path) -> Iterator[None]:
    """Puts them there, and takes their runs away after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUBMILL_DEADLINE_HOURS", str(DEADLINE_HOURS))
        for name in SCHEDULES:
            patch.setenv(f"DUBMILL_{name}_SCHEDULE", "@daily")
        bag = DagBag(str(repository / "dags"), bundle_path=repository / "dags", bundle_name=BUNDLE)
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, BUNDLE, None)
    with create_session() as session:
        session.query(DagModel).update({"is_paused": False})
    yield
    with create_session() as session:
        for kind in (BackfillDagRun, DagRun, Backfill):
            for row in session.scalars(select(kind)):
                session.delete(row)
            session.flush()


def runs_by_hand(dag_id: str, number: int) -> list[str]:
    """Asks for so many runs at once; gives their ids."""
    names = [f"manual__{at}" for at in range(number)]
    with create_session() as session:
        dag = session.scalar(SerializedDagModel.latest_item_select_object(dag_id)).dag
        for name in names:
            dag.create_dagrun(
                run_id=name, run_after=datetime.now(UTC) - timedelta(minutes=1), run_type=DagRunType.MANUAL, triggered_by=DagRunTriggeredByType.TEST,
                state="queued", session=session,
            )  # fmt: skip
    return names
