"""The plugin as Airflow loads it, and what its environment says."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import inspect

from dags.review_room.configuration import Configuration, read_configuration
from dags.review_room.database import VERSION_TABLE, Database
from dags.review_room.tables import TABLES

REPOSITORY = Path(__file__).parents[3]


def test_airflow_finds_the_page_and_loads_nothing_heavy_for_it() -> None:
    """Every process of a task loads plugins."""
    script = """
        import os, sys
        before = set(sys.modules)
        from airflow._shared.plugins_manager import _load_plugins_from_plugin_directory
        plugins, faults = _load_plugins_from_plugin_directory("dags/plugins")
        heavy = {"fastapi", "alembic", "dags.review_room.app"} & (set(sys.modules) - before)
        print(faults, [(plugin.name, plugin.fastapi_apps[0]["url_prefix"], plugin.external_views[0]["href"]) for plugin in plugins], heavy)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{} [('review_room', '/review-room', '/review-room/')] set()"


def test_the_environment_says_where_material_and_database_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DUBMILL_REVIEW", "DUBMILL_REVIEW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", "/airflow")
    assert read_configuration() == Configuration((), "sqlite:////airflow/review-room.db")
    monkeypatch.setenv("DUBMILL_REVIEW", " s3://bucket/review/, /data/review ,")
    monkeypatch.setenv("DUBMILL_REVIEW_DATABASE_URL", "postgresql+asyncpg://u:p@h/d")
    assert read_configuration() == Configuration(("s3://bucket/review", "/data/review"), "postgresql+psycopg2://u:p@h/d")


def test_migrations_make_the_tables_that_the_code_knows(database_url: str) -> None:
    database = Database(database_url)
    for _ in range(2):
        database.migrate()
    with database.reading() as connection:
        seen = inspect(connection)
        assert set(seen.get_table_names()) == {*TABLES.tables, VERSION_TABLE}
        for name, table in TABLES.tables.items():
            assert {(column["name"], column["nullable"]) for column in seen.get_columns(name)} == {(column.name, column.nullable) for column in table.columns}
            assert {index["name"] for index in seen.get_indexes(name)} >= {index.name for index in table.indexes}
            uniques = {constraint["name"] for constraint in seen.get_unique_constraints(name)}
            assert uniques == {one.name for one in table.constraints if one.name in {"review_messages_once", "review_verdicts_once"}}
    database.close()
