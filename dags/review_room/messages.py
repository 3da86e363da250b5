"""The messages of a room: written once, in one order for all, and read from any place on."""

import math
import time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Row, insert, select, text, update

from dags.review_room.database import Database
from dags.review_room.tables import MESSAGES, ROOMS, SENDERS

LONGEST_TEXT = 4000
"""Characters of a message."""
BURST = 120
"""Messages that a person may send at once, after a pause: what an offline window has kept is sent on end."""
REFILL_A_SECOND = 2.0
"""Messages a second that a person may send on and on."""
AT_ONCE = 500
"""Messages read at a time."""
ID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def _require_text(value: str) -> str:
    stripped = value.strip()
    if not stripped:
        raise ValueError("a message says something")
    if "\0" in stripped:
        raise ValueError("a message has no zero bytes")
    return stripped


Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_require_text)]


class NewMessage(BaseModel):
    """As a window sends it. message_id: made there, once for all tries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message_id: str = Field(pattern=ID_PATTERN)
    text: Text


class Message(BaseModel):
    """As everybody sees it."""

    model_config = ConfigDict(frozen=True)

    number: int
    message_id: str
    author: str
    text: str
    posted_at_s: float


class TooFastError(Exception):
    """A person sends more than the room takes. wait_s: when to try again."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"Too many messages at once; try again in {wait_s:.0f} s.")
        self.wait_s = wait_s


class NotYoursError(Exception):
    """An id under which somebody else has written."""


def post_message(database: Database, batch: str, new: NewMessage, author: str, now_s: float | None = None) -> Message:
    """Writes a message to a room's list and gives it its number; one that was written before is given as it is.

    Raises TooFastError and NotYoursError.
    """
    now_s = time.time() if now_s is None else now_s
    with database.writing() as connection:
        # Always the sender's row, then the room's: whoever takes locks in one order never waits for each other in a circle.
        allowance = _lock_sender(connection, author, now_s)
        number = lock_room(connection, batch).last_message + 1
        if (written := _written(connection, batch, new.message_id)) is not None:
            return _require_own(written, author)
        if allowance < 1:
            raise TooFastError(math.ceil((1 - allowance) / REFILL_A_SECOND))
        connection.execute(update(SENDERS).where(SENDERS.c.author == author).values(allowance=allowance - 1, counted_at_s=now_s))
        message = Message(number=number, message_id=new.message_id, author=author, text=new.text, posted_at_s=now_s)
        connection.execute(insert(MESSAGES).values(batch=batch, **message.model_dump()))
        connection.execute(update(ROOMS).where(ROOMS.c.batch == batch).values(last_message=number))
    return message


def messages_after(database: Database, batch: str, number: int, limit: int = AT_ONCE) -> list[Message]:
    """The messages that come after a number, in order, at most `limit`."""
    chosen = select(MESSAGES).where(MESSAGES.c.batch == batch, MESSAGES.c.number > number).order_by(MESSAGES.c.number).limit(limit)
    with database.reading() as connection:
        return [_message(row) for row in connection.execute(chosen)]


def messages_before(database: Database, batch: str, number: int, limit: int) -> list[Message]:
    """The last messages before a number, in order, at most `limit`."""
    chosen = select(MESSAGES).where(MESSAGES.c.batch == batch, MESSAGES.c.number < number).order_by(MESSAGES.c.number.desc()).limit(limit)
    with database.reading() as connection:
        return [_message(row) for row in connection.execute(chosen)][::-1]


def message_counts(database: Database) -> dict[str, int]:
    """How many messages each room has."""
    with database.reading() as connection:
        return {row.batch: row.last_message for row in connection.execute(select(ROOMS))}


def lock_room(connection: Connection, batch: str) -> Row[tuple[str, int, int]]:
    """The row of a room, which from now on until the end of the transaction nobody else changes. Made where there is none."""
    connection.execute(
        text("INSERT INTO review_rooms (batch, last_message, last_verdict) VALUES (:batch, 0, 0) ON CONFLICT (batch) DO NOTHING"), {"batch": batch}
    )
    return connection.execute(select(ROOMS).where(ROOMS.c.batch == batch).with_for_update()).one()


def _lock_sender(connection: Connection, author: str, now_s: float) -> float:
    """How many messages a person may send now; nobody else counts them meanwhile."""
    connection.execute(
        text("INSERT INTO review_senders (author, allowance, counted_at_s) VALUES (:author, :burst, :now_s) ON CONFLICT (author) DO NOTHING"),
        {"author": author, "burst": float(BURST), "now_s": now_s},
    )
    row = connection.execute(select(SENDERS).where(SENDERS.c.author == author).with_for_update()).one()
    return float(min(BURST, row.allowance + max(0.0, now_s - row.counted_at_s) * REFILL_A_SECOND))


def _written(connection: Connection, batch: str, message_id: str) -> Message | None:
    row = connection.execute(select(MESSAGES).where(MESSAGES.c.batch == batch, MESSAGES.c.message_id == message_id)).one_or_none()
    return None if row is None else _message(row)


def _require_own(message: Message, author: str) -> Message:
    if message.author != author:
        raise NotYoursError
    return message


def _message(row: Row[tuple[object, ...]]) -> Message:
    return Message(number=row.number, message_id=row.message_id, author=row.author, text=row.text, posted_at_s=row.posted_at_s)


def heads(database: Database, batches: list[str]) -> dict[str, tuple[int, int]]:
    """Of rooms that have any, the numbers of the last message and the last verdict."""
    with database.reading() as connection:
        rows = connection.execute(select(ROOMS).where(ROOMS.c.batch.in_(batches)))
        return {row.batch: (row.last_message, row.last_verdict) for row in rows}
