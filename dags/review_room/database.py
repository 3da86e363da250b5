"""The room's database: SQLite or Postgres, its transactions, and its tables brought up to date."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from dags.review_room.configuration import DATABASE_VARIABLE
from schemas.errors import SettingsError
from schemas.locations import without_secrets

SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "review_alembic_version"
"""Not Alembic's default name: Airflow's own tables may lie in the same database."""
MIGRATION_LOCK = 7_305_481_220_733_041
"""Key of the advisory lock under which Postgres is migrated: any number that nobody else takes."""
BUSY_TIMEOUT_S = 30
"""How long a writer of SQLite waits for another one."""
REACHING_POSTGRES = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""Seconds, but the last, which is milliseconds: a host that drops packets holds up who asks for no longer than so."""
_MIGRATING = threading.Lock()
"""Alembic's context is one for a process."""


class Database:
    """Connections to the room's database. What is written is committed when the `with` is left without an error."""

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def is_sqlite(self) -> bool:
        """Whether it is a file, which has no advisory locks. Raises SettingsError as all that reaches the database."""
        return self._engine.dialect.name == "sqlite"

    @cached_property
    def _engine(self) -> Engine:
        """Made when it is first asked for. SettingsError for a URL of no database that can be used here."""
        try:
            is_sqlite = make_url(self._url).get_backend_name() == "sqlite"
            arguments = {"timeout": BUSY_TIMEOUT_S} if is_sqlite else REACHING_POSTGRES
            engine = create_engine(self._url, connect_args=arguments, pool_pre_ping=True, pool_size=5, max_overflow=10)
        except (ArgumentError, ImportError) as error:
            raise SettingsError(f"{DATABASE_VARIABLE} names no database that can be used here: {without_secrets(str(error)).rstrip('.')}.") from error
        if is_sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes. In SQLite it is the only one from its beginning on, so what it has read stays true."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Makes the tables, or brings them up to date; of several processes that do so at once one works and the others wait."""
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
        head = ScriptDirectory.from_config(config).get_current_head()
        with _MIGRATING, self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            if _revision(connection) != head:
                config.attributes.update(connection=connection, version_table=VERSION_TABLE)
                command.upgrade(config, "head")

    def close(self) -> None:
        """Ends all connections that are not in use."""
        if "_engine" in vars(self):
            self._engine.dispose()


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A database that is up to date, for as long as a task needs it."""
    database = Database(url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not before the first change
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
