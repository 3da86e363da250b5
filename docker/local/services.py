"""Starts and ends a Ray head and Airflow's components on this machine, on loopback only.

`up.py` and `demo.py` beside this file use it; all files here are plain scripts, for the folder `docker` is no package.
Every process that is started here carries an environment variable that names the folder it was started for. So what is
ended is what was started, with all its descendants, and nothing else: neither another Ray nor another Airflow.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
from environments import DATA_PYTHON, LOOPBACK, REPOSITORY, ray_environment
from processes import COMPONENT, MARK, Listener, kill_all, listeners_of, processes_of

AIRFLOW = REPOSITORY / ".venv-airflow" / "bin" / "airflow"

DASHBOARD_PORT = 8265
"""Ray's own default; another is taken when it is not free."""
OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Only URIs and counts travel between Ray's workers, so its shared memory stays small."""
START_LIMIT_S = 180.0
"""Longest wait for a component: a slow disk and two busy cores take a minute."""
STOP_GRACE_S = 12.0
"""Seconds a component has to end by itself. An idle Ray takes three."""
RAY = "ray"
"""Name of the component that is Ray."""


class ServiceError(Exception):
    """A component that does not start, or that ended by itself. One sentence."""


@dataclass(frozen=True)
class Service:
    """A started component; its process leads a session of its own. ports: on which it must be able to listen. began_s: on the steady clock."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    log: Path
    ports: tuple[int, ...]
    with_group: bool
    process: subprocess.Popen[bytes]
    began_s: float

    @property
    def taken_ports(self) -> tuple[int, ...]:
        """Those of its ports on which something listens."""
        return tuple(port for port in self.ports if free_port(port) != port)

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
        kill_all(self._processes)  # what an earlier run has left behind that was killed outright
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def started(self) -> tuple[Service, ...]:
        """The components that were started, also those that have ended by themselves since."""
        return tuple(self._started)

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], *, ports: Sequence[int] = (), with_group: bool = True) -> Service:
        """Starts a component in a session of its own, so that a Ctrl-C on the terminal reaches only this process.

        ports: those on which it is to listen. with_group: the whole group is asked to end, and what it writes (settings, database,
        logs) is its owner's alone.
        """
        marked = {**self.marked(environment), COMPONENT: name}
        words, log = tuple(str(part) for part in command), self.logs / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=marked,
                cwd=self.folder,
                start_new_session=True,
                umask=0o077 if with_group else -1,  # a corpus and dubbed videos are files like any other
            )
        service = Service(name, words, marked, log, tuple(ports), with_group, process, time.monotonic())
        self._started.append(service)
        return service

    def start_again(self, service: Service) -> Service | None:
        """Starts a component that has ended; what it left running is ended first. None: something else still listens on one of its ports."""
        kill_all(lambda: self.processes_of(service))
        if service.taken_ports:
            return None
        self._started.remove(service)
        return self.start(service.name, service.command, service.environment, ports=service.ports, with_group=service.with_group)

    def kill(self, service: Service) -> None:
        """SIGKILL to all processes of a component, as a power cut does; it can be started again as it was."""
        kill_all(lambda: self.processes_of(service))
        service.process.wait()

    def forget(self, service: Service) -> None:
        """Nobody asks any more for a component that has ended."""
        self._started.remove(service)

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
        ports = (free_port(DASHBOARD_PORT), *free_ports(3))
        self.start(RAY, ray_command(self._ray_temp, ports, cpus or os.cpu_count() or 1), ray_environment(), ports=ports, with_group=False)
        return f"http://{LOOPBACK}:{ports[0]}"

    def wait_for_ray(self, url: str) -> None:
        """Waits until the Ray head at that URL answers."""
        self.wait_for("Ray", lambda: httpx.get(f"{url}/api/jobs/", trust_env=False).is_success)

    def start_airflow(self, environment: Mapping[str, str]) -> None:
        """Prepares Airflow's database, starts its four components and waits until all of them are well."""
        migrate_airflow(self, environment)
        self.begin_airflow(environment)
        self.wait_for("Airflow", lambda: airflow_is_well(environment["AIRFLOW__API__PORT"]))

    def begin_airflow(self, environment: Mapping[str, str]) -> None:
        """Starts Airflow's four components over a database that is prepared, without waiting."""
        port = environment["AIRFLOW__API__PORT"]
        api_server: list[str | Path] = [AIRFLOW, "api-server", "--host", LOOPBACK, "--port", port, "--workers", "1", "--worker-timeout", "5"]
        self.start("api-server", api_server, environment, ports=[int(port)])
        # Their log servers would listen on every interface; logs are read from the folder instead.
        self.start("scheduler", [AIRFLOW, "scheduler", "--skip-serve-logs"], environment)
        self.start("triggerer", [AIRFLOW, "triggerer", "--skip-serve-logs"], environment)
        self.start("dag-processor", [AIRFLOW, "dag-processor"], environment)

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

    def listeners(self) -> list[Listener]:
        """Every TCP socket on which one of these processes listens, by component."""
        return sorted(listener for service in self._started for listener in listeners_of(service.name, self.processes_of(service)))

    def stop(self) -> None:
        """Ends everything that was started, and whatever its processes have started in turn."""
        airflow = [service for service in self._started if service.with_group]
        ray = [service for service in self._started if not service.with_group]
        for services in (airflow, ray):  # Airflow's tasks stop their jobs as they end, so Ray is the last
            for service in services:
                service.ask_to_end()
            _wait_for_end(services)
        kill_all(self._processes)
        for service in self._started:
            service.process.wait()
        self._started.clear()
        self._put_ray_away()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _processes(self) -> list[int]:
        return processes_of(self.folder, [service.process.pid for service in self._started])

    def processes_of(self, service: Service) -> list[int]:
        """The processes of a component, with all that it has started."""
        return processes_of(self.folder, [service.process.pid], service.name)

    def _put_ray_away(self) -> None:
        """Keeps the logs of Ray's sessions (one a start), and removes all else that it wrote."""
        if self._ray_temp is None:
            return
        shutil.rmtree(self.logs / "ray", ignore_errors=True)
        for session in sorted(self._ray_temp.glob("session_[0-9]*")):
            if (session / "logs").is_dir():
                shutil.copytree(session / "logs", self.logs / "ray" / session.name, ignore=_ignore_what_is_no_file)
        shutil.rmtree(self._ray_temp, ignore_errors=True)
        self._ray_temp = None


def ray_command(temp_folder: Path, ports: Sequence[int], cpus: int) -> list[str | Path]:
    """The command of a Ray head. ports: of its dashboard, its head proper (GCS), its agent and its client server."""
    dashboard, head, agent, client = map(str, ports)
    return [
        *(DATA_PYTHON.with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--temp-dir", temp_folder, "--num-cpus", str(cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--include-dashboard", "true", "--dashboard-host", LOOPBACK, "--dashboard-port", dashboard),
        *("--port", head, "--dashboard-agent-listen-port", agent, "--ray-client-server-port", client),
        *("--min-worker-port", "0", "--max-worker-port", "0"),
    ]


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


def _answers(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except httpx.TransportError:
        return False  # it does not listen yet


def airflow_is_well(port: str) -> bool:
    """Whether the Airflow at that port counts its database and all of its components as well."""
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


def _ignore_what_is_no_file(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not ((path := Path(folder) / name).is_dir() or (path.is_file() and not path.is_symlink()))]
