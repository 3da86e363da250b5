"""The room's tables, as SQLAlchemy knows them; `migrations/` makes them.

Their names begin with `review_`: they may lie in a database that Airflow uses too.
"""

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

TABLES = MetaData()

ROOMS = Table(
    "review_rooms",
    TABLES,
    Column("batch", String(120), primary_key=True),
    Column("last_message", Integer, nullable=False),
    Column("last_verdict", Integer, nullable=False),
)
"""A row a batch: the numbers given out last. They are taken under the row's lock, so numbers are committed in their order and
whoever asks for what comes after a number misses nothing. (Serial ids become visible in any order.)"""

MESSAGES = Table(
    "review_messages",
    TABLES,
    Column("batch", String(120), ForeignKey(ROOMS.c.batch), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("message_id", String(36), nullable=False),
    Column("author", String(250), nullable=False),
    Column("text", Text, nullable=False),
    Column("posted_at_s", Float, nullable=False),
    UniqueConstraint("batch", "message_id", name="review_messages_once"),
)
"""message_id: made by whoever sends, so that a message sent twice is one. posted_at_s: seconds of the epoch."""

SENDERS = Table(
    "review_senders",
    TABLES,
    Column("author", String(250), primary_key=True),
    Column("allowance", Float, nullable=False),
    Column("counted_at_s", Float, nullable=False),
)
"""How many messages a person may still send just now, as of counted_at_s."""

VERDICTS = Table(
    "review_verdicts",
    TABLES,
    Column("batch", String(120), ForeignKey(ROOMS.c.batch), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("verdict_id", String(36), nullable=False),
    Column("job_id", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("version", String(250), nullable=False, server_default=""),
    Column("verdict", String(10), nullable=False),
    Column("settings", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("author", String(250), nullable=False),
    Column("given_at_s", Float, nullable=False),
    Column("subject", Text, nullable=False),
    Column("claim", String(250)),
    Column("settled_at_s", Float),
    UniqueConstraint("batch", "verdict_id", name="review_verdicts_once"),
    Index("review_verdicts_of_a_job", "batch", "job_id"),
    Index("review_verdicts_unsettled", "settled_at_s"),
)
"""Every verdict ever given; of a dub, that is a job, its fingerprint and the version of its file, the one with the highest number counts.
settings: JSON, of a redo. subject: JSON, what following the verdict takes (schemas.review.VerdictSubject). claim: the DAG run that follows it.
settled_at_s: when that was done."""
