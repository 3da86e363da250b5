"""Tells this process's open streams that their room has something new.

One look a round at the database for all rooms that somebody has open here, however many windows that are. What is new is never taken
from here but read from the database: this only says when to look.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from dags.review_room.database import Database
from dags.review_room.messages import heads

log = logging.getLogger(__name__)

LOOK_S = 0.4
"""Seconds between two looks: what another API server wrote is seen after this; what this one wrote, at once."""

Head = tuple[int, int]
"""Numbers of a room's last message and last verdict."""


class Watch:
    """The rooms that are open in this process, and how far each is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: Counter[str] = Counter()
        self._heads: dict[str, Head] = {}
        self._new = asyncio.Event()
        self._looks: asyncio.Task[None] | None = None

    @contextmanager
    def opened(self, batch: str) -> Iterator[None]:
        """Within it the room is looked at."""
        self._open[batch] += 1
        if self._looks is None or self._looks.done():
            self._looks = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._open[batch] -= 1
            if not self._open[batch]:
                del self._open[batch]
                self._heads.pop(batch, None)

    def head(self, batch: str) -> Head:
        """How far a room is known to be."""
        return self._heads.get(batch, (0, 0))

    def wrote(self, batch: str, *, message: int = 0, verdict: int = 0) -> None:
        """Somebody wrote by way of this process: its windows need not wait for the next look."""
        if batch in self._open:
            self._advance(batch, (message, verdict))

    async def beyond(self, batch: str, seen: Head, limit_s: float) -> bool:
        """Waits until a room is further than what was seen of it; False after `limit_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not _is_beyond(self.head(batch), seen):
                    await self._new.wait()
                return True
        return False

    async def _look_on(self) -> None:
        """Ends when no room is open any more."""
        while self._open:
            try:
                found = await to_thread.run_sync(heads, self._database, sorted(self._open))
                for batch, head in found.items():
                    self._advance(batch, head)
            except SQLAlchemyError:
                log.warning("The review room's database does not answer; its windows wait.", exc_info=True)
            await asyncio.sleep(LOOK_S)

    def _advance(self, batch: str, head: Head) -> None:
        known = self.head(batch)
        if batch in self._open and _is_beyond(head, known):
            self._heads[batch] = (max(head[0], known[0]), max(head[1], known[1]))
            self._new.set()  # all who wait look whether it concerns them
            self._new = asyncio.Event()


def _is_beyond(head: Head, seen: Head) -> bool:
    return head[0] > seen[0] or head[1] > seen[1]
