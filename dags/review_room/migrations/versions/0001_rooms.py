"""Rooms, their messages and verdicts, and how fast people may write."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the four tables."""
    op.create_table(
        "review_rooms",
        sa.Column("batch", sa.String(120), primary_key=True),
        sa.Column("last_message", sa.Integer, nullable=False),
        sa.Column("last_verdict", sa.Integer, nullable=False),
    )
    op.create_table(
        "review_senders",
        sa.Column("author", sa.String(250), primary_key=True),
        sa.Column("allowance", sa.Float, nullable=False),
        sa.Column("counted_at_s", sa.Float, nullable=False),
    )
    op.create_table(
        "review_messages",
        sa.Column("batch", sa.String(120), sa.ForeignKey("review_rooms.batch"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("author", sa.String(250), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("posted_at_s", sa.Float, nullable=False),
        sa.UniqueConstraint("batch", "message_id", name="review_messages_once"),
    )
    _create_verdicts()


def _create_verdicts() -> None:
    op.create_table(
        "review_verdicts",
        sa.Column("batch", sa.String(120), sa.ForeignKey("review_rooms.batch"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("verdict_id", sa.String(36), nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(10), nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("author", sa.String(250), nullable=False),
        sa.Column("given_at_s", sa.Float, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("claim", sa.String(250)),
        sa.Column("settled_at_s", sa.Float),
        sa.UniqueConstraint("batch", "verdict_id", name="review_verdicts_once"),
    )
    op.create_index("review_verdicts_of_a_job", "review_verdicts", ["batch", "job_id"])
    op.create_index("review_verdicts_unsettled", "review_verdicts", ["settled_at_s"])


def downgrade() -> None:
    """Drops them, with all that people wrote."""
    for table in ("review_verdicts", "review_messages", "review_senders", "review_rooms"):
        op.drop_table(table)
