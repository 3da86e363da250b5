"""A room's list of messages: one order for all, each once, whoever writes and however many at once."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from dags.review_room import messages
from dags.review_room.database import Database
from dags.review_room.messages import LONGEST_TEXT, NewMessage, NotYoursError, TooFastError, messages_after, messages_before, post_message
from tests.dags.review_room.conftest import new_message
from tests.postgres_server import Postgres

REPOSITORY = Path(__file__).parents[3]
BURST = 7
"""Messages at once, in tests of it."""
WRITERS, EACH = 3, 20


def _new(number: int, said: str = "hello") -> NewMessage:
    return NewMessage.model_validate(new_message(number, said))


def test_messages_are_numbered_in_the_order_of_their_coming_a_room_each(database: Database) -> None:
    for number, (batch, author) in enumerate([("a", "ann"), ("b", "ann"), ("a", "ben"), ("a", "ann")]):
        post_message(database, batch, _new(number, f"message {number}"), author)
    assert [(one.number, one.author, one.text) for one in messages_after(database, "a", 0)] == [
        (1, "ann", "message 0"),
        (2, "ben", "message 2"),
        (3, "ann", "message 3"),
    ]
    assert [one.number for one in messages_after(database, "b", 0)] == [1]
    assert [one.number for one in messages_after(database, "a", 2)] == [3]
    assert [one.number for one in messages_before(database, "a", 3, limit=1)] == [2]


def test_a_message_that_is_sent_twice_is_written_once(database: Database) -> None:
    first = post_message(database, "a", _new(1, "said once"), "ann")
    post_message(database, "a", _new(2), "ben")
    assert post_message(database, "a", _new(1, "said once"), "ann") == first
    assert [one.number for one in messages_after(database, "a", 0)] == [1, 2]


def test_nobody_writes_under_the_id_of_somebody_else(database: Database) -> None:
    post_message(database, "a", _new(1), "ann")
    with pytest.raises(NotYoursError):
        post_message(database, "a", _new(1), "ben")


def test_who_sends_too_fast_waits_and_others_do_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "BURST", BURST)
    for number in range(BURST):
        post_message(database, "ab"[number % 2], _new(number), "ann", now_s=1000.0)
    with pytest.raises(TooFastError) as caught:
        post_message(database, "a", _new(BURST), "ann", now_s=1000.0)
    assert caught.value.wait_s == 1
    post_message(database, "a", _new(BURST + 1), "ben", now_s=1000.0)
    post_message(database, "a", _new(0), "ann", now_s=1000.0)  # written before: nothing new is asked for
    post_message(database, "a", _new(BURST), "ann", now_s=1001.0)
    post_message(database, "a", _new(BURST + 2), "ann", now_s=1001.0)  # two a second come back
    with pytest.raises(TooFastError):
        post_message(database, "a", _new(BURST + 3), "ann", now_s=1000.5)  # and a clock that is set back brings none


def test_what_was_refused_leaves_no_gap(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "BURST", BURST)
    for number in range(BURST):
        post_message(database, "a", _new(number), "ann", now_s=0.0)
    with pytest.raises(TooFastError):
        post_message(database, "a", _new(BURST), "ann", now_s=0.0)
    assert post_message(database, "a", _new(900), "ben", now_s=0.0).number == BURST + 1


@pytest.mark.parametrize("said", ["", " \n\t", "x" * (LONGEST_TEXT + 1), "a\0b", "\ud800"])
def test_messages_that_say_nothing_or_too_much_or_what_no_database_takes_are_refused(said: str) -> None:
    with pytest.raises(ValidationError):
        _new(1, said)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.text(min_size=1, max_size=300))
def test_whatever_is_taken_comes_back_as_it_was(database: Database, said: str) -> None:
    try:
        new = NewMessage(message_id=new_message(time.time_ns() % 10**12)["message_id"], text=said)
    except ValidationError:
        return
    posted = post_message(database, "texts", new, said[:1].encode().hex())
    assert messages_after(database, "texts", posted.number - 1, limit=1)[0].text == said.strip()


WRITE = """
    import sys
    from dags.review_room.database import Database
    from dags.review_room.messages import NewMessage, post_message
    database, writer = Database(sys.argv[1]), int(sys.argv[2])
    database.migrate()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[3])):
        new = NewMessage(message_id=f"{writer:08x}-0000-4000-8000-{number:012x}", text=f"{writer} {number}")
        post_message(database, "room", new, f"writer {writer}")
"""


def test_many_processes_write_at_once_and_a_reader_sees_all_once_and_in_order(database_url: str) -> None:
    """They also all bring the empty database up to date at one time."""
    command = [sys.executable, "-c", textwrap.dedent(WRITE), database_url]
    writers = [
        subprocess.Popen([*command, str(number), str(EACH)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    database = Database(database_url)
    seen = []
    deadline = time.monotonic() + 60
    while len(seen) < WRITERS * EACH and time.monotonic() < deadline:
        seen += messages_after(database, "room", seen[-1].number if seen else 0, limit=7)
    assert [writer.wait(30) for writer in writers] == [0] * WRITERS
    assert [one.number for one in seen] == list(range(1, WRITERS * EACH + 1))
    for number in range(WRITERS):
        assert [one.text for one in seen if one.author == f"writer {number}"] == [f"{number} {each}" for each in range(EACH)]
    database.close()


def test_a_reader_never_gets_past_a_message_that_is_still_being_written(database: Database) -> None:
    """Serial ids would let it: the second is committed first. A number is taken under the room's lock, so the second waits for the first."""
    import threading

    from sqlalchemy import insert, update

    from dags.review_room.messages import lock_room
    from dags.review_room.tables import MESSAGES, ROOMS

    second = threading.Thread(target=lambda: post_message(database, "room", _new(2, "second"), "ben"))
    with database.writing() as connection:
        number = lock_room(connection, "room").last_message + 1
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert messages_after(database, "room", 0) == []
        values = {"batch": "room", "number": number, "message_id": new_message(1)["message_id"], "author": "ann", "text": "first", "posted_at_s": 0.0}
        connection.execute(insert(MESSAGES).values(values))
        connection.execute(update(ROOMS).where(ROOMS.c.batch == "room").values(last_message=number))
    second.join(30)
    assert [one.text for one in messages_after(database, "room", 0)] == ["first", "second"]


def test_what_was_acknowledged_survives_the_death_of_postgres(postgres: Postgres) -> None:
    database = Database(postgres.url)
    database.migrate()
    posted = post_message(database, "killed", _new(1, "kept"), "ann")
    assert postgres.process is not None
    postgres.process.send_signal(3)  # immediate shutdown, as a crash
    postgres.process.wait()
    with pytest.raises(OperationalError):
        messages_after(database, "killed", 0)
    postgres.start()
    assert messages_after(database, "killed", 0) == [posted]
    database.close()
