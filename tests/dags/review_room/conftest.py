"""Rooms to try things on: over SQLite and over Postgres, with people of every role, and no server but where a test is about one."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from dags.review_room.app import application
from dags.review_room.configuration import Configuration
from dags.review_room.database import Database
from dags.review_room.room import Rooms
from tests.dags.review_room.made_up import write_batch
from tests.postgres_server import Postgres, postgres_server

BATCH = "monday.csv"
ROLES = {"ann": "admin", "ben": "op", "uma": "user", "vic": "viewer", "guest": None}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'room.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    name = f"room_{secrets.token_hex(6)}"
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.url.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Material with one batch; its videos are no videos, which only browsers mind."""
    folder = write_batch(tmp_path / "review", BATCH, title="Monday's course", note="Second take.")
    (folder / "previews" / "face.dub.mp4").write_bytes(bytes(range(256)) * 40)
    return tmp_path / "review"


def _user_of(request: Request) -> SimpleAuthManagerUser:
    name = request.headers.get("x-user")
    if name is None:
        raise HTTPException(401, "Not authenticated")
    return SimpleAuthManagerUser(username=name, role=ROLES[name])


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own simple auth manager decides; only its question after a DAG's team, which needs Airflow's database, is left out."""
    create_auth_manager()
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag_id: None)


ClientOf = Callable[[str], TestClient]


@pytest.fixture
def client_of(roles: None, prefix: Path, tmp_path: Path) -> Iterator[ClientOf]:
    """An HTTP client as a user of that name, over SQLite."""
    guarded = application(Rooms(Configuration((str(prefix),), f"sqlite:///{tmp_path / 'room.db'}")))
    guarded._application.dependency_overrides[get_user] = _user_of
    with TestClient(guarded) as client:

        def of(name: str) -> TestClient:
            client.headers["x-user"] = name
            return client

        yield of


def new_message(number: int, said: str = "hello") -> dict[str, Any]:
    return {"message_id": f"00000000-0000-4000-8000-{number:012x}", "text": said}


def new_verdict(number: int, verdict: str = "approve", **more: Any) -> dict[str, Any]:
    return {"verdict_id": f"00000000-0000-4000-9000-{number:012x}", "fingerprint": "0123456789abcdef", "verdict": verdict, **more}
