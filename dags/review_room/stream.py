"""A room's messages as server-sent events: what comes after the last one a window has, and then each as it is written."""

import logging
import time
from collections.abc import AsyncIterator

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from dags.review_room.database import Database
from dags.review_room.messages import Message, messages_after
from dags.review_room.watch import Watch

log = logging.getLogger(__name__)

LIFE_S = 60.0
"""A stream ends after this and its window asks again, naming its last message: so that who lost their role, or a server that is to stop,
is not held on to, and the login is looked at anew."""
BEAT_S = 15.0
"""A line is sent at least so often: a connection that is gone is noticed, and nothing between takes it for idle."""
RETRY_MS = 500
"""After which a window asks again when its stream has ended."""
CLOSING = "event: closing\ndata: {}\n\n"


async def events(database: Database, watch: Watch, batch: str, after: int, life_s: float = LIFE_S) -> AsyncIterator[str]:
    """Events from a message's number on: `message` with the number as its id, and `verdicts` whenever one was given."""
    ends_s = time.monotonic() + life_s
    yield f"retry: {RETRY_MS}\n\n"
    with watch.opened(batch):
        verdict = 0
        while (left_s := ends_s - time.monotonic()) > 0:
            head = watch.head(batch)  # before reading: what is written from now on is beyond it
            try:
                messages = await to_thread.run_sync(messages_after, database, batch, after)
            except SQLAlchemyError as error:
                log.warning("A window of %s is let go, for the review room's database does not answer: %s", batch, str(error).splitlines()[0])
                return
            for message in messages:
                after = message.number
                yield as_event(message)
            if head[1] > verdict:
                verdict = head[1]
                yield f"event: verdicts\ndata: {verdict}\n\n"
            if not await watch.beyond(batch, (after, verdict), min(BEAT_S, left_s)):
                yield ": still here\n\n"
    yield CLOSING


def as_event(message: Message) -> str:
    """A message as the event that a window gets. JSON has no line breaks of its own, so one line of data holds it."""
    return f"id: {message.number}\nevent: message\ndata: {message.model_dump_json()}\n\n"


def last_seen(header: str | None, after: int | None) -> int | None:
    """The number of the last message that a window has: as the browser says it on coming back, or else as the page says it. None: neither."""
    if header is not None and header.isascii() and header.isdigit() and len(header) < 10:
        return int(header)
    return after
