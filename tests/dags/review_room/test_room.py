"""What a process of the API server does while the room's database cannot be used."""

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from dags.review_room import room as room_module
from dags.review_room.configuration import Configuration
from dags.review_room.database import Database
from dags.review_room.room import DatabaseAwayError, Rooms
from schemas.errors import SettingsError


def test_a_database_that_was_away_is_asked_again_and_not_by_everybody_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    honest = Database.migrate

    def away(self: Database) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise OperationalError("SELECT", {}, Exception("no route to host"))
        honest(self)

    monkeypatch.setattr(Database, "migrate", away)
    monkeypatch.setattr(room_module, "AGAIN_S", 0.5)
    rooms = Rooms(Configuration((), f"sqlite:///{tmp_path / 'room.db'}"))
    with pytest.raises(OperationalError):
        _ = rooms.database
    for _ in range(3):
        with pytest.raises(DatabaseAwayError):
            _ = rooms.database
    assert len(tries) == 1
    time.sleep(0.6)
    assert rooms.database is rooms.database
    assert len(tries) == 2


def test_who_asks_while_somebody_tries_does_not_wait_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = threading.Event()
    monkeypatch.setattr(Database, "migrate", lambda self: reached.wait(30))
    monkeypatch.setattr(room_module, "PATIENCE_S", 0.1)
    rooms = Rooms(Configuration((), f"sqlite:///{tmp_path / 'room.db'}"))
    first = threading.Thread(target=lambda: rooms.database)
    first.start()
    time.sleep(0.1)
    with pytest.raises(SQLAlchemyError):
        _ = rooms.database
    reached.set()
    first.join()
    assert rooms.database is not None


@pytest.mark.parametrize("url", ["no url at all", "nosuchkind://host/room", "mysql+nosuchdriver://host/room"])
def test_a_url_of_no_database_is_one_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match="DUBMILL_REVIEW_DATABASE_URL"):
        _ = Rooms(Configuration((), url)).database
