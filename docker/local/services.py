"""Starts and ends a Ray head and Airflow's components on this machine, on loopback only.

`up.py` and `demo.py` beside this file use it; all three are plain scripts, for the folder `docker` is no package.
Every process that is started here carries an environment variable that names the folder it was started for. So what is
ended is what was started, with all its descendants, and nothing else: neither another Ray nor another Airflow.
"""

import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from schemas.job_log import CLUSTER_PYTHON_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
DATA_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
AIRFLOW = REPOSITORY / ".venv-airflow" / "bin" / "airflow"

LOOPBACK = "127.0.0.1"
DASHBOARD_PORT = 8265
"""Ray's own default; another is taken when it is not free."""
AIRFLOW_PORT = 8080
"""Airflow's own default; another is taken when it is not free."""
OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Only URIs and counts travel between Ray's workers, so its shared memory stays small."""
START_LIMIT_S = 180.0
"""Longest wait for a component: a slow disk and two busy cores take a minute."""
STOP_GRACE_S = 12.0
"""Seconds a component has to end by itself. An idle Ray takes three."""
SWEEP_LIMIT_S = 10.0
"""Seconds to wait until killed processes are gone."""
MARK = "DUBMILL_SERVICES"
"""Environment variable of every process started here: the folder that it was started for."""
ADMIN = "admin"


class ServiceError(Exception):
    """A component that does not start, or that ended by itself. One sentence."""


@dataclass(frozen=True)
class Service:
    """A started component; its process leads a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    with_group: bool

    def ask_to_end(self) -> None:
        """SIGTERM to the process, or to its whole group where the parent alone would orphan the rest."""
        with suppress(ProcessLookupError):
            if self.with_group:
                os.killpg(self.process.pid, signal.SIGTERM)
            else:
                self.process.terminate()


class Services:
    """The components of one folder. Use as a context: leaving it ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self._started: list[Service] = []
        self._ray_temp: Path | None = None
        self._lock: int | None = None

    def __enter__(self) -> "Services":
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(self.folder)
        _kill_all(self._processes)  # what an earlier run has left behind that was killed outright
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], *, with_group: bool = True) -> Service:
        """Starts a component in a session of its own, so that a Ctrl-C on the terminal reaches only this process.

        `with_group`: the whole group is asked to end, and what it writes (settings, database, logs) is its owner's alone.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.marked(environment),
                cwd=self.folder,
                start_new_session=True,
                umask=0o077 if with_group else -1,  # a corpus and dubbed videos are files like any other
            )
        service = Service(name, process, log, with_group)
        self._started.append(service)
        return service

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment with the mark by which `stop` finds a process and all its descendants again."""
        return {**environment, MARK: str(self.folder)}

    def start_ray(self, cpus: int | None = None) -> str:
        """Starts a Ray head with its dashboard; returns the URL of dashboard and job API once they answer."""
        url = self.begin_ray(cpus)
        self.wait_for_ray(url)
        return url

    def begin_ray(self, cpus: int | None = None) -> str:
        """As `start_ray`, without waiting: something else can be done until `wait_for_ray`."""
        self._ray_temp = Path(tempfile.mkdtemp(prefix="dubmill-", dir="/tmp"))  # short: a socket's path has at most 107 characters
        dashboard = free_port(DASHBOARD_PORT)
        command: list[str | Path] = ray_command(self._ray_temp, dashboard, cpus or os.cpu_count() or 1)
        self.start("ray", command, ray_environment(), with_group=False)
        return f"http://{LOOPBACK}:{dashboard}"

    def wait_for_ray(self, url: str) -> None:
        """Waits until the Ray head at that URL answers."""
        self.wait_for("Ray", lambda: httpx.get(f"{url}/api/jobs/", trust_env=False).is_success)

    def start_airflow(self, environment: Mapping[str, str]) -> None:
        """Prepares Airflow's database, starts its four components and waits until all of them are well."""
        migrate_airflow(self, environment)
        port = environment["AIRFLOW__API__PORT"]
        api_server: list[str | Path] = [AIRFLOW, "api-server", "--host", LOOPBACK, "--port", port, "--workers", "1", "--worker-timeout", "5"]
        self.start("api-server", api_server, environment)
        # Their log servers would listen on every interface; logs are read from the folder instead.
        self.start("scheduler", [AIRFLOW, "scheduler", "--skip-serve-logs"], environment)
        self.start("triggerer", [AIRFLOW, "triggerer", "--skip-serve-logs"], environment)
        self.start("dag-processor", [AIRFLOW, "dag-processor"], environment)
        self.wait_for("Airflow", lambda: _airflow_is_well(port))

    def wait_for(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Waits until a component answers. Raises ServiceError when one ends first, or after START_LIMIT_S."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            self.require_running()
            if _answers(is_ready):
                return
            time.sleep(0.3)
        raise ServiceError(f"{name} did not come up within {START_LIMIT_S:.0f} s; its logs are in {self.logs}.")

    def require_running(self) -> None:
        """Raises ServiceError when a component has ended by itself."""
        for service in self._started:
            code = service.process.poll()
            if code is not None:
                raise ServiceError(f"{service.name} ended by itself with exit code {code}; see {service.log}.")

    def listening(self) -> list[tuple[str, int]]:
        """Address and port of every TCP socket on which one of these processes listens."""
        return listening_sockets(self._processes())

    def stop(self) -> None:
        """Ends everything that was started, and whatever its processes have started in turn."""
        airflow = [service for service in self._started if service.with_group]
        ray = [service for service in self._started if not service.with_group]
        for services in (airflow, ray):  # Airflow's tasks stop their jobs as they end, so Ray is the last
            for service in services:
                service.ask_to_end()
            _wait_for_end(services)
        _kill_all(self._processes)
        for service in self._started:
            service.process.wait()
        self._started.clear()
        self._put_ray_away()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _processes(self) -> list[int]:
        return processes_of(self.folder, [service.process.pid for service in self._started])

    def _put_ray_away(self) -> None:
        if self._ray_temp is None:
            return
        logs = self._ray_temp / "session_latest" / "logs"
        if logs.is_dir():
            shutil.rmtree(self.logs / "ray", ignore_errors=True)
            shutil.copytree(logs, self.logs / "ray", ignore=_ignore_what_is_no_file)
        shutil.rmtree(self._ray_temp, ignore_errors=True)
        self._ray_temp = None


def ray_command(temp_folder: Path, dashboard_port: int, cpus: int) -> list[str | Path]:
    """The command of a Ray head. Ports that nobody needs to know are whatever is free."""
    ports = free_ports(3)
    return [
        *(DATA_PYTHON.with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--temp-dir", temp_folder, "--num-cpus", str(cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--include-dashboard", "true", "--dashboard-host", LOOPBACK, "--dashboard-port", str(dashboard_port)),
        *("--port", str(ports[0]), "--dashboard-agent-listen-port", str(ports[1]), "--ray-client-server-port", str(ports[2])),
        *("--min-worker-port", "0", "--max-worker-port", "0"),
    ]


def ray_environment() -> dict[str, str]:
    """The environment of a Ray head: the code on its path, no token, every listener on loopback."""
    return _base_environment() | {
        "RAY_AUTH_MODE": "disabled",  # said on purpose: a token file that lies about would switch it on
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with no node address given, Ray then stays on 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",  # a job's lines are seen when they are printed
    }


def airflow_environment(home: Path, settings_folder: Path, ray_url: str, port: int = AIRFLOW_PORT) -> dict[str, str]:
    """The environment of Airflow's components: SQLite and LocalExecutor in `home`, the DAGs of this repository."""
    url = f"http://{LOOPBACK}:{port}"
    return _base_environment() | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # as many worker processes are forked in advance
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "http", "host": LOOPBACK, "port": int(ray_url.rsplit(":", 1)[1])}),
        "DUBMILL_SETTINGS": str(settings_folder),
        CLUSTER_PYTHON_VARIABLE: str(DATA_PYTHON),
    }


def migrate_airflow(services: Services, environment: Mapping[str, str]) -> None:
    """Makes or updates Airflow's database and its settings file, which holds the components' shared secrets (mode 0600)."""
    log = services.logs / "migrate.log"
    Path(environment["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as file:
        done = subprocess.run(
            [AIRFLOW, "db", "migrate"],
            check=False,
            env=services.marked(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the session of what carries the mark is ended, which must not be that of whoever called
            umask=0o077,
        )
    if done.returncode != 0:
        raise ServiceError(f"Airflow's database could not be made; see {log}.")


def admin_password(home: Path) -> str:
    """The password of Airflow's one user: drawn once, kept in a file that only its owner can read."""
    file = home / "passwords.json"
    home.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump({ADMIN: secrets.token_urlsafe(12)}, opened)
    file.chmod(0o600)
    return str(json.loads(file.read_text())[ADMIN])


def free_port(preferred: int = 0) -> int:
    """The preferred port when nothing listens on it, else any that is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError("This machine has no free port.")


def free_ports(count: int) -> list[int]:
    """Different free ports: all are held until the last is known."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt, once; further ones are ignored.

    Set on purpose: a script that starts this with `&` hands down an ignored SIGINT.
    """

    def interrupt(*_: object) -> None:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {number: signal.signal(number, interrupt) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processes_of(folder: Path, sessions: Collection[int] = ()) -> list[int]:
    """Ids of the processes that were started for a folder, with all their descendants, this one left out.

    Ray's helpers overwrite their environment when they name themselves, and outlive their parents for a while. But they
    stay in the session of the process that was started here. So a process counts when it carries the mark, or when it is
    in one of `sessions` or in the session of one that carries the mark.
    """
    mark = f"{MARK}={folder}".encode()
    session_of = {process: session for process in _all_processes() if (session := _session(process)) is not None}
    marked = {process for process in session_of if _carries(process, mark)}
    ours = {*sessions, *(session_of[process] for process in marked)} - {os.getsid(0)}
    return sorted(process for process, session in session_of.items() if (process in marked or session in ours) and process != os.getpid())


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _carries(process: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # ended meanwhile, or somebody else's


def _session(process: int) -> int | None:
    """The session of a process that runs; None when it has ended."""
    try:
        state, _, _, session = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in "ZX" else int(session)


def listening_sockets(processes: Sequence[int]) -> list[tuple[str, int]]:
    """Address and port of the TCP sockets on which these processes listen, from the kernel's tables."""
    inodes = {inode for process in processes for inode in _socket_inodes(process)}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: listening
                address, port = fields[1].split(":")
                found.add((_address_text(address, family), int(port, 16)))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def is_loopback(address: str) -> bool:
    """Whether an IPv4 or IPv6 address is of this machine alone; IPv4 addresses inside IPv6 ones count as what they are."""
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _address_text(hexadecimal: str, family: socket.AddressFamily) -> str:
    # The kernel prints each 32-bit word in the machine's byte order, least significant byte first.
    words = [bytes.fromhex(hexadecimal[start : start + 8])[::-1] for start in range(0, len(hexadecimal), 8)]
    return socket.inet_ntop(family, b"".join(words))


def _socket_inodes(process: int) -> Iterator[str]:
    try:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return


def _base_environment() -> dict[str, str]:
    """This process's environment with the code on the path, without what would lead to another Ray or through a proxy."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "VIRTUAL_ENV", "PYTHONHOME", MARK)}
    direct = ",".join(filter(None, (environment.get("NO_PROXY") or environment.get("no_proxy"), LOOPBACK, "localhost")))
    return environment | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": direct, "no_proxy": direct}


def _answers(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except httpx.TransportError:
        return False  # it does not listen yet


def _airflow_is_well(port: str) -> bool:
    response = httpx.get(f"http://{LOOPBACK}:{port}/api/v2/monitor/health", trust_env=False)
    if not response.is_success:
        return False
    parts = response.json()
    return all((parts.get(name) or {}).get("status") == "healthy" for name in ("metadatabase", "scheduler", "triggerer", "dag_processor"))


def _lock_folder(folder: Path) -> int:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ServiceError(f"Another run is using {folder} right now; end it first, or give another folder.") from error
    return descriptor


def _wait_for_end(services: Sequence[Service]) -> None:
    deadline = time.monotonic() + STOP_GRACE_S
    while time.monotonic() < deadline and any(service.process.poll() is None for service in services):
        time.sleep(0.1)


def _kill_all(find: Callable[[], list[int]]) -> None:
    """Kills processes until no more are found."""
    deadline = time.monotonic() + SWEEP_LIMIT_S
    while (left := find()) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def _ignore_what_is_no_file(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not ((path := Path(folder) / name).is_dir() or (path.is_file() and not path.is_symlink()))]
