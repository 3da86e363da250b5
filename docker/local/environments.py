"""The environment variables with which a Ray head and Airflow's components run on this machine: all that makes them differ from elsewhere."""

import json
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from processes import COMPONENT, MARK

from schemas.errors import SettingsError
from schemas.job_log import CLUSTER_PYTHON_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
DATA_PYTHON = REPOSITORY / ".venv" / "bin" / "python"

LOOPBACK = "127.0.0.1"
AIRFLOW_PORT = 8080
"""Airflow's own default; another is taken when it is not free."""
ADMIN = "admin"

DATABASE_VARIABLE, DATABASE_FILE_VARIABLE = "DUBMILL_DATABASE_URL", "DUBMILL_DATABASE_URL_FILE"
"""Postgres in place of SQLite: its URL, or a file that holds it. No argument, which everybody on the machine could read."""
POSTGRES_SCHEMES = ("postgresql", "postgresql+psycopg2", "postgres")
DEPLOYMENT_VARIABLE = "DUBMILL_DEPLOYMENT"
"""What this Airflow is called in the ids of its Ray jobs: two that share a Ray must not take each other's jobs for their own."""
NOT_HANDED_DOWN = ("RAY_ADDRESS", "VIRTUAL_ENV", "PYTHONHOME", MARK, COMPONENT, DATABASE_VARIABLE, DATABASE_FILE_VARIABLE)
"""What would lead to another Ray or Python, and a password that a job has no need of."""

DURABILITY = {
    # A task that begins, defers or ends tells the API server. One that is away, and started again, is waited for: 50 tries with
    # pauses of 2 to 5 s are 100 to 250 s. Airflow's own five tries may all be over after 10 s, and the task fails.
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "50",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MIN": "2",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "5",
    # A slow answer is an answer: asked again after 5 s, two busy cores only get busier, and a task that has begun is told that it had.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    # A task whose process was killed outright is begun again after so long; longer than an API server is waited for at the least,
    # or tasks that are well would count as dead.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "180",
    # What a scheduler that was killed outright had begun is begun again by the next one: the dead one is known as such after 30 s,
    # and looked for this often, where Airflow's own default looks every five minutes.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
}
"""What it takes for a run to survive the death of a component; the same in docker/compose.yaml and in the values of docs/kubernetes.md."""


def ray_environment() -> dict[str, str]:
    """The environment of a Ray head: the code on its path, no token, every listener on loopback."""
    return _base_environment() | {
        "RAY_AUTH_MODE": "disabled",  # said on purpose: a token file that lies about would switch it on
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with no node address given, Ray then stays on 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",  # of Ray's own 60 s a busy machine of two cores took 50
        "PYTHONUNBUFFERED": "1",  # a job's lines are seen when they are printed
    }


def airflow_environment(
    home: Path, settings_folder: Path | str, ray_url: str, port: int = AIRFLOW_PORT, database: str = "", review: Path | str = ""
) -> dict[str, str]:
    """The environment of Airflow's components: LocalExecutor, the DAGs of this repository, everything of theirs in `home`.

    settings_folder: folder or s3:// prefix of the settings files. database: URL of a Postgres database; none: SQLite in `home`.
    review: where the review room finds its material, one or several folders or prefixes.
    """
    url = f"http://{LOOPBACK}:{port}"
    return (
        _base_environment()
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "dags" / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",  # as many worker processes are forked in advance
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "http", "host": LOOPBACK, "port": int(ray_url.rsplit(":", 1)[1])}),
            "DUBMILL_SETTINGS": str(settings_folder),
            "DUBMILL_REVIEW": str(review),
            "DUBMILL_REVIEW_DATABASE_URL": database,  # none: the room has a SQLite file of its own in `home`
            DEPLOYMENT_VARIABLE: deployment(home),
            CLUSTER_PYTHON_VARIABLE: str(DATA_PYTHON),
        }
        | DURABILITY
    )


def database_url() -> str:
    """The URL of the Postgres database that the user named, as SQLAlchemy wants it; empty: none was. Raises SettingsError without the password."""
    given, file = os.environ.get(DATABASE_VARIABLE, ""), os.environ.get(DATABASE_FILE_VARIABLE, "")
    if given and file:
        raise SettingsError(f"{DATABASE_VARIABLE} and {DATABASE_FILE_VARIABLE} are both set; only one of them can say where the database is.")
    if file:
        given = _read_url(Path(file))
    if not given:
        return ""
    try:
        parts = urlsplit(given)
        is_whole = parts.scheme in POSTGRES_SCHEMES and bool(parts.hostname) and len(parts.path) > 1
    except ValueError:  # its text holds the URL
        is_whole = False
    if not is_whole:
        raise SettingsError(f"{DATABASE_VARIABLE} must be like postgresql://user:password@host:5432/database; it is not shown here, as it may hold a password.")
    return f"postgresql+psycopg2{given[len(parts.scheme) :]}"


def _read_url(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"The file {file} of {DATABASE_FILE_VARIABLE} cannot be read: {reason}.") from error


def deployment(home: Path) -> str:
    """The name of this Airflow: what the user calls it, or one that is drawn once and kept."""
    return os.environ.get(DEPLOYMENT_VARIABLE) or _drawn_once(home / "deployment", secrets.token_hex(4))


def admin_password(home: Path) -> str:
    """The password of Airflow's one user: drawn once, kept in a file that only its owner can read."""
    content = _drawn_once(home / "passwords.json", json.dumps({ADMIN: secrets.token_urlsafe(12)}))
    return str(json.loads(content)[ADMIN])


def _drawn_once(file: Path, content: str) -> str:
    """The content of a file that only its owner can read; of one that is not there yet, the content given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(content)
    file.chmod(0o600)
    return file.read_text()


def _base_environment() -> dict[str, str]:
    """This process's environment with the code on the path, without what would lead elsewhere or through a proxy."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_DOWN}
    direct = ",".join(filter(None, (environment.get("NO_PROXY") or environment.get("no_proxy"), LOOPBACK, "localhost")))
    return environment | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": direct, "no_proxy": direct}
