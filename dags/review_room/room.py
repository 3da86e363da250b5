"""What the routes share: the material, the database and the watch, each made once in a process."""

import threading
import time

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from dags.review_room.configuration import Configuration, read_configuration
from dags.review_room.database import Database
from dags.review_room.material import FoundBatch, Material, Video
from dags.review_room.messages import Message, NewMessage, post_message
from dags.review_room.verdicts import GivenVerdict, NewVerdict, give_verdict
from dags.review_room.watch import Watch
from schemas.review import ReviewItem, VerdictSubject

AGAIN_S = 2.0
"""After a failure the database is left alone for so long: as windows are told to."""
PATIENCE_S = 2.0
"""For which one waits while another brings the database up to date."""


class DatabaseAwayError(SQLAlchemyError):
    """The database did not answer a moment ago, or somebody else tries to reach it."""


class NotApprovableError(Exception):
    """A dub that is to be approved is not there, or a gate holds it. One sentence."""


class Rooms:
    """The rooms of all batches, as this process serves them. Nothing that matters is kept here: the database is the truth."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        configuration = configuration or read_configuration()
        self.material = Material(configuration.prefixes)
        self._database = Database(configuration.database_url)
        self.watch = Watch(self._database)
        self._is_ready = False
        self._again_s = 0.0
        self._lock = threading.Lock()

    @property
    def database(self) -> Database:
        """The database, up to date. Raises SQLAlchemyError while it does not answer, and SettingsError where its URL is at fault.

        One at a time tries, and who asks within AGAIN_S of a failure is told of that one: those who wait hold threads that Airflow's own pages need.
        """
        if self._is_ready:
            return self._database
        if time.monotonic() < self._again_s or not self._lock.acquire(timeout=PATIENCE_S):
            raise DatabaseAwayError
        try:
            if not self._is_ready:
                self._database.migrate()
                self._is_ready = True
        except SQLAlchemyError:
            self._again_s = time.monotonic() + AGAIN_S
            raise
        finally:
            self._lock.release()
        return self._database

    async def post(self, batch: str, new: NewMessage, author: str) -> Message:
        """Writes a message, and has the windows that this process serves look at once."""
        message = await to_thread.run_sync(lambda: post_message(self.database, batch, new, author))
        self.watch.wrote(batch, message=message.number)
        return message

    async def give(self, batch: FoundBatch, item: ReviewItem, new: NewVerdict, author: str) -> GivenVerdict:
        """Writes a verdict, likewise, with what following it takes. Raises NotApprovableError for what is not there or held."""
        video = await to_thread.run_sync(self.material.video, batch, item.dub)
        if new.verdict == "approve" and (why := why_not(batch, item, video)):
            raise NotApprovableError(why)
        subject = VerdictSubject(dub=self.material.place(batch, item.dub), version=video.version if video else "", folder=batch.folder, job=item.job)
        given = await to_thread.run_sync(lambda: give_verdict(self.database, batch.name, item.job_id, new, subject, author))
        self.watch.wrote(batch.name, verdict=given.number)
        return given


def why_not(batch: FoundBatch, item: ReviewItem, video: Video | None) -> str:
    """Why a dub cannot be approved, in a sentence; empty: it can."""
    if video is None:
        return "The dub is not there any more, so it cannot be approved."
    if item.version and item.version != video.version:
        return "The dub was made anew since it was laid out here, and nobody has looked at the new one; let review_dubs run again."
    if not item.gate.is_open:
        return f"The gate holds this dub: {item.gate.sentence}"
    if batch.content is not None and not batch.content.gate.is_open:
        return f"The gate holds the whole run: {batch.content.gate.sentence}"
    return ""
