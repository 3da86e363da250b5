"""Real API servers of Airflow with the review room in them, on loopback, for tests that use it as people do."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.airflow_api import token_of

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "docker" / "local"))

import services  # noqa: E402 - a plain script, whose folder is no package

USERS = {"ann": "admin", "ben": "op", "uma": "user", "vic": "viewer"}
"""Names and roles; each one's password is the name, twice."""
ROOM = "/review-room"
START_LIMIT_S = 240.0
NO_ROLE = "guest"
"""A user whom the login knows and no role covers."""


@dataclass
class Servers:
    """Airflow's API servers over one database. environment: of all of them."""

    started: services.Services
    environment: dict[str, str]
    running: dict[int, services.Service] = field(default_factory=dict)

    def start(self, port: int) -> str:
        """Starts a server and gives its URL once it answers."""
        command = [services.AIRFLOW, "api-server", "--apps", "core", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--worker-timeout", "5"]
        self.running[port] = self.started.start(f"api-server-{port}", command, self.environment)
        url = f"http://127.0.0.1:{port}"
        self._wait(port, url)
        return url

    def kill(self, port: int) -> None:
        """As when the machine loses it: no goodbye to anybody."""
        service = self.running.pop(port)
        self.started.kill(service)
        self.started.forget(service)

    def stop(self, port: int) -> float:
        """SIGTERM, as an upgrade does; gives the seconds until it has ended."""
        service = self.running.pop(port)
        began_s = time.monotonic()
        service.ask_to_end()
        service.process.wait(60)
        self.started.forget(service)
        return time.monotonic() - began_s

    def _wait(self, port: int, url: str) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.running[port].process.poll() is not None:
                break
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/api/v2/version", trust_env=False).is_success:
                    return
            time.sleep(0.2)
        raise AssertionError((self.started.logs / f"api-server-{port}.log").read_text()[-4000:])


@contextmanager
def airflow_servers(folder: Path, prefixes: str, database: str = "", airflow_database: str = "") -> Iterator[Servers]:
    """Servers to be started, over an Airflow database that is made here. database: of the room; default: its own default."""
    home = folder / "airflow"
    home.mkdir(parents=True)
    (home / "passwords.json").write_text(json.dumps({name: name * 2 for name in [*USERS, NO_ROLE]}))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "DUBMILL"))},
        "PYTHONPATH": str(REPOSITORY),
        "NO_PROXY": "127.0.0.1,localhost",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "dags" / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join([*(f"{name}:{role}" for name, role in USERS.items()), f"{NO_ROLE}:"]),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow_database or f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of a test, long enough to be taken for a key of 64 bytes or so",
        "AIRFLOW__API__SECRET_KEY": "of a test",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "DUBMILL_REVIEW": prefixes,
        "DUBMILL_REVIEW_DATABASE_URL": database,
    }
    with services.Services(folder / "services") as started:
        services.migrate_airflow(started, environment)
        yield Servers(started, environment)


def client_of(url: str, name: str) -> httpx.Client:
    """An HTTP client that is logged in as a user."""
    return httpx.Client(base_url=f"{url}{ROOM}", headers={"Authorization": f"Bearer {token_of(url, name, name * 2)}"}, trust_env=False, timeout=60)


def message(number: int, text: str) -> dict[str, Any]:
    return {"message_id": f"00000000-0000-4000-8000-{number:012x}", "text": text}
