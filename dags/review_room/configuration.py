"""Where the review room finds its material and keeps what people write: two environment variables."""

import os
from dataclasses import dataclass
from pathlib import Path

MATERIAL_VARIABLE = "DUBMILL_REVIEW"
"""Folders or s3:// prefixes of review material, separated by commas."""
DATABASE_VARIABLE = "DUBMILL_REVIEW_DATABASE_URL"
"""SQLAlchemy URL of the room's database; default: a SQLite file in AIRFLOW_HOME."""
DATABASE_FILE = "review-room.db"
POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg")
"""Ways to say Postgres, for which psycopg2 is installed."""


@dataclass(frozen=True)
class Configuration:
    """prefixes: of review material, in the order in which a batch's name is looked for. database_url: as SQLAlchemy wants it."""

    prefixes: tuple[str, ...]
    database_url: str


def read_configuration() -> Configuration:
    """What this process's environment says."""
    prefixes = tuple(prefix.strip().rstrip("/") for prefix in os.environ.get(MATERIAL_VARIABLE, "").split(",") if prefix.strip())
    return Configuration(prefixes, database_url())


def database_url() -> str:
    """The room's database, with the driver that is installed."""
    given = os.environ.get(DATABASE_VARIABLE, "").strip()
    if not given:
        home = Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow")
        return f"sqlite:///{home / DATABASE_FILE}"
    kind, separator, rest = given.partition("://")
    return f"postgresql+psycopg2{separator}{rest}" if kind in POSTGRES else given
