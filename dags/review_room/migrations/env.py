"""What Alembic runs: the migrations, over the connection that `database.migrate` holds, within its transaction."""

from alembic import context

from dags.review_room.tables import TABLES

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES,
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
