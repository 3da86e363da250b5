"""What people decided of each dub: every verdict is kept, the latest of a dub counts, and a DAG follows it once.

The functions from `claim` on are for tasks, which reach the database by its URL: `with opened(url) as database: claim(database, run_id)`.
"""

import json
import time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from dags.review_room.database import Database
from dags.review_room.messages import ID_PATTERN, NotYoursError, lock_room
from dags.review_room.tables import ROOMS, VERDICTS
from schemas.review import Verdict, VerdictSubject

DUB = ("job_id", "fingerprint", "version")
"""What tells one dub of a batch from another: made anew of other content under the same row, it is another one."""
LONGEST_NOTE = 1000
"""Characters of what a person may say with a verdict."""


def _without_zero_bytes(value: str) -> str:
    if "\0" in value:
        raise ValueError("a note has no zero bytes")
    return value.strip()


class NewVerdict(BaseModel):
    """As a window sends it. fingerprint, version: of the dub that was looked at. settings: what a redo changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict_id: str = Field(pattern=ID_PATTERN)
    fingerprint: str = Field(max_length=64)
    version: str = Field(default="", max_length=250)
    verdict: Verdict
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    note: Annotated[str, Field(max_length=LONGEST_NOTE), AfterValidator(_without_zero_bytes)] = ""


class GivenVerdict(BaseModel):
    """As everybody sees it. settled: the DAG has done what it says."""

    model_config = ConfigDict(frozen=True)

    number: int
    job_id: str
    fingerprint: str
    version: str
    verdict: Verdict
    settings: dict[str, JsonValue]
    note: str
    author: str
    given_at_s: float
    settled: bool


class ClaimedVerdict(BaseModel):
    """A verdict that a DAG run follows."""

    model_config = ConfigDict(frozen=True)

    batch: str
    subject: VerdictSubject
    claim: str
    given: GivenVerdict


def give_verdict(database: Database, batch: str, job_id: str, new: NewVerdict, subject: VerdictSubject, author: str) -> GivenVerdict:
    """Writes a verdict; one that was written before is given as it is. Raises NotYoursError for an id of somebody else's."""
    with database.writing() as connection:
        number = lock_room(connection, batch).last_verdict + 1
        written = connection.execute(select(VERDICTS).where(VERDICTS.c.batch == batch, VERDICTS.c.verdict_id == new.verdict_id)).one_or_none()
        if written is not None:
            if written.author != author or written.job_id != job_id:
                raise NotYoursError
            return _given(written)
        values = {
            **new.model_dump(exclude={"settings"}),
            "batch": batch,
            "number": number,
            "job_id": job_id,
            "settings": json.dumps(new.settings, sort_keys=True),
            "author": author,
            "given_at_s": time.time(),
            "subject": subject.model_dump_json(),
        }
        connection.execute(insert(VERDICTS).values(values))
        connection.execute(update(ROOMS).where(ROOMS.c.batch == batch).values(last_verdict=number))
        return _given(connection.execute(select(VERDICTS).where(VERDICTS.c.batch == batch, VERDICTS.c.number == number)).one())


def latest_verdicts(database: Database, batch: str) -> list[GivenVerdict]:
    """The verdict that counts of each dub of a batch; of a job that was made anew, one for each of its dubs."""
    with database.reading() as connection:
        return [_given(row) for row in connection.execute(_latest(*DUB).where(VERDICTS.c.batch == batch))]


def verdicts_of(database: Database, batch: str, job_id: str) -> list[GivenVerdict]:
    """All verdicts of a job, the newest first."""
    chosen = select(VERDICTS).where(VERDICTS.c.batch == batch, VERDICTS.c.job_id == job_id).order_by(VERDICTS.c.number.desc())
    with database.reading() as connection:
        return [_given(row) for row in connection.execute(chosen)]


def claim(database: Database, run_id: str) -> list[ClaimedVerdict]:
    """The last verdict of each job that was not followed yet, in order: those that no run has claimed become this run's, when it first claims.

    What another run has claimed and not settled is given too, under that run's claim: it has failed, for one runs at a time. A run that tries
    again claims no more than at first, so what is made of a claim has the same content however often it is tried. A verdict that was overruled,
    by one on any dub of its job, is not followed: what it asked for is nobody's wish any more.
    """
    with database.writing() as connection:
        last = {(row.batch, row.number) for row in connection.execute(_latest("job_id"))}
        if not connection.execute(select(VERDICTS.c.number).where(VERDICTS.c.claim == run_id).limit(1)).all():
            for row in connection.execute(_unsettled().where(VERDICTS.c.claim.is_(None))).all():
                if (row.batch, row.number) in last:
                    _set(connection, row, claim=run_id)
        claimed = connection.execute(_unsettled().where(VERDICTS.c.claim.is_not(None))).all()
        rows = [row for row in claimed if (row.batch, row.number) in last]
        for row in claimed:
            if (row.batch, row.number) not in last:
                _set(connection, row, settled_at_s=time.time())
    return [ClaimedVerdict(batch=row.batch, subject=VerdictSubject.model_validate_json(row.subject), claim=row.claim, given=_given(row)) for row in rows]


def settle(database: Database, followed: list[tuple[str, int]]) -> None:
    """Notes that verdicts, by batch and number, were followed."""
    with database.writing() as connection:
        for batch, number in followed:
            chosen = and_(VERDICTS.c.batch == batch, VERDICTS.c.number == number, VERDICTS.c.settled_at_s.is_(None))
            connection.execute(update(VERDICTS).where(chosen).values(settled_at_s=time.time()))


def _unsettled() -> Select[Any]:
    return select(VERDICTS).where(VERDICTS.c.settled_at_s.is_(None)).order_by(VERDICTS.c.claim, VERDICTS.c.batch, VERDICTS.c.number)


def _latest(*of: str) -> Select[Any]:
    """Of each batch and what else is named, the verdict with the highest number."""
    names = ("batch", *of)
    last = select(*(VERDICTS.c[name] for name in names), func.max(VERDICTS.c.number).label("number")).group_by(*(VERDICTS.c[name] for name in names)).subquery()
    same = [VERDICTS.c[name] == last.c[name] for name in (*names, "number")]
    return select(VERDICTS).join(last, and_(*same)).order_by(VERDICTS.c.batch, VERDICTS.c.number)


def _set(connection: Connection, row: Row[Any], **values: object) -> None:
    connection.execute(update(VERDICTS).where(VERDICTS.c.batch == row.batch, VERDICTS.c.number == row.number).values(**values))


def _given(row: Row[Any]) -> GivenVerdict:
    return GivenVerdict(
        number=row.number,
        job_id=row.job_id,
        fingerprint=row.fingerprint,
        version=row.version,
        verdict=row.verdict,
        settings=json.loads(row.settings),
        note=row.note,
        author=row.author,
        given_at_s=row.given_at_s,
        settled=row.settled_at_s is not None,
    )
