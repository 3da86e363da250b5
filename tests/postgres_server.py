"""A real Postgres server on loopback, with a data folder of its own, for tests of what production keeps there."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "airflow", "of-a-test"
SYSTEM_USER = "postgres"
"""Whom the server runs as where the tests run as root, which it refuses."""
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0)
START_LIMIT_S = 60.0


@dataclass
class Postgres:
    """A server that can be killed and started again. url: of its database, as SQLAlchemy wants it."""

    folder: Path
    port: int
    programs: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """The database `airflow`."""
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{USER}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        command = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **_as_whom())
        deadline = time.monotonic() + START_LIMIT_S
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "postgres.log").read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGINT: connections are closed, what was committed is kept."""
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait()
            self.process = None


@contextmanager
def postgres_server(port: int = 0) -> Iterator[Postgres]:
    """An empty server whose database `airflow` is there. Skips the test where Postgres is not installed."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="dubmill-pg-", dir="/tmp") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, SYSTEM_USER)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)  # of a folder that is its owner's alone
        authentication = ["--username", USER, "--pwfile", folder / "password", "--auth", "scram-sha-256", "--no-sync"]
        subprocess.run([programs / "initdb", "-D", folder / "data", *authentication], check=True, capture_output=True, **_as_whom())
        (folder / "postgres.log").touch()
        server = Postgres(folder, port or _free_port(), programs)
        server.start()
        try:
            environment = {**os.environ, "PGPASSWORD": PASSWORD}
            subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", USER, USER], check=True, env=environment)
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    found = next((folder for folder in reversed(PROGRAMS) if (folder / "initdb").exists()), None)
    if found is None:
        pytest.skip("needs a Postgres server, which is not installed (Debian: apt install postgresql)")
    if os.geteuid() == 0 and not _is_user(SYSTEM_USER):
        pytest.skip(f"runs as root, which Postgres refuses, and there is no user {SYSTEM_USER} to run it as")
    return found


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _as_whom() -> dict[str, object]:
    return {"user": SYSTEM_USER, "cwd": "/"} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
