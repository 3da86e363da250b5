"""Verdicts name the version of the file that was looked at: a dub that is made anew under the same row is another one."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

VERDICTS = sa.table("review_verdicts", sa.column("batch"), sa.column("number"), sa.column("subject"), sa.column("version"))


def upgrade() -> None:
    """Adds the column; earlier verdicts take what they noted for their release."""
    op.add_column("review_verdicts", sa.Column("version", sa.String(250), nullable=False, server_default=""))
    connection = op.get_bind()
    for row in connection.execute(sa.select(VERDICTS.c.batch, VERDICTS.c.number, VERDICTS.c.subject)).all():
        this = sa.and_(VERDICTS.c.batch == row.batch, VERDICTS.c.number == row.number)
        connection.execute(sa.update(VERDICTS).where(this).values(version=json.loads(row.subject).get("version", "")))


def downgrade() -> None:
    """Takes it away again."""
    op.drop_column("review_verdicts", "version")
