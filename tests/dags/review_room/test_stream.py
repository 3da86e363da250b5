"""A room's stream of events: what a window missed, then what is written, from whichever process."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from dags.review_room import stream as stream_module
from dags.review_room.database import Database
from dags.review_room.messages import Message, NewMessage, post_message
from dags.review_room.stream import CLOSING, events, last_seen
from dags.review_room.watch import LOOK_S, Watch
from tests.dags.review_room.conftest import new_message


@pytest.fixture
def room(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'room.db'}")
    database.migrate()
    return database


def _post(database: Database, number: int) -> int:
    return post_message(database, "room", NewMessage.model_validate(new_message(number, f"message {number}")), "ann").number


def _messages(told: list[str]) -> list[dict[str, Any]]:
    return [json.loads(event.split("data: ")[1]) for event in told if "event: message" in event]


async def _all(stream: AsyncIterator[str]) -> list[str]:
    return [event async for event in stream]


async def _until(stream: AsyncIterator[str], count: int) -> list[str]:
    told: list[str] = []
    while len(_messages(told)) < count:
        told.append(await anext(stream))
    return told


def test_a_window_gets_what_it_missed_and_nothing_twice(room: Database) -> None:
    for number in range(5):
        _post(room, number)
    told = asyncio.run(_all(events(room, Watch(room), "room", after=2, life_s=0.05)))
    assert [message["number"] for message in _messages(told)] == [3, 4, 5]
    assert [line for event in told for line in event.splitlines() if line.startswith("id:")] == ["id: 3", "id: 4", "id: 5"]
    assert told[-1] == CLOSING


def test_what_another_process_writes_is_seen_after_a_look(room: Database) -> None:
    async def watched() -> list[dict[str, Any]]:
        stream = events(room, Watch(room), "room", after=0)
        told = [await anext(stream)]
        _post(room, 1)  # not by way of this process's watch
        told += await asyncio.wait_for(_until(stream, 1), 20 + LOOK_S)
        await stream.aclose()
        return _messages(told)

    assert [message["text"] for message in asyncio.run(watched())] == ["message 1"]


def test_what_this_process_writes_is_seen_at_once(room: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dags.review_room.watch.LOOK_S", 3600.0)

    async def watched() -> list[dict[str, Any]]:
        watch = Watch(room)
        streams = [events(room, watch, "room", after=0) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        waiting = [asyncio.create_task(_until(stream, 1)) for stream in streams]
        await asyncio.sleep(0.2)  # the only look has been, and has found nothing
        watch.wrote("room", message=_post(room, 1))
        told = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        for stream in streams:
            await stream.aclose()
        return [message for one in told for message in _messages(one)]

    assert [message["number"] for message in asyncio.run(watched())] == [1, 1, 1]


def test_a_backlog_longer_than_one_reading_comes_whole(room: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        _post(room, number)
    monkeypatch.setattr("dags.review_room.messages.messages_after.__defaults__", (3,))
    told = asyncio.run(_all(events(room, Watch(room), "room", after=0, life_s=2 * LOOK_S)))
    assert [message["number"] for message in _messages(told)] == list(range(1, 8))


def test_a_window_is_let_go_while_the_database_is_away(room: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It asks again by itself; a traceback a window would hide what happened."""

    def away(*_: object) -> list[Message]:
        raise OperationalError("SELECT", {}, Exception("the connection was closed"))

    monkeypatch.setattr(stream_module, "messages_after", away)
    assert asyncio.run(_all(events(room, Watch(room), "monday", 0, life_s=5.0))) == [f"retry: {stream_module.RETRY_MS}\n\n"]
    assert "monday" in caplog.text


def test_a_watch_ends_with_the_last_window(room: Database) -> None:
    async def opened() -> bool:
        watch = Watch(room)
        await _all(events(room, watch, "room", after=0, life_s=0.05))
        await asyncio.sleep(2 * LOOK_S)
        return watch._looks is not None and watch._looks.done()

    assert asyncio.run(opened())


@pytest.mark.parametrize(
    ("header", "after", "number"), [("7", 3, 7), (None, 3, 3), (None, None, None), ("", 3, 3), ("x", 3, 3), ("-1", 3, 3), ("9" * 30, 3, 3), ("²", None, None)]
)
def test_the_browsers_word_on_the_last_message_goes_before_the_pages(header: str | None, after: int | None, number: int | None) -> None:
    assert last_seen(header, after) == number
