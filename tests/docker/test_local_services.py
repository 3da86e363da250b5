"""Starting and ending Ray and Airflow on this machine: all of what was started, and nothing else."""

import importlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from schemas import settings
from schemas.settings import check_settings

LOCAL = Path(__file__).parents[2] / "docker" / "local"
sys.path.insert(0, str(LOCAL))
services = importlib.import_module("services")  # plain scripts: the folder `docker` is no package
environments = importlib.import_module("environments")
processes = importlib.import_module("processes")
supervision = importlib.import_module("supervision")
pools = importlib.import_module("pools")
dag_runs = importlib.import_module("dag_runs")
up = importlib.import_module("up")
demo = importlib.import_module("demo")

WAIT_S = 20.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the address that nothing of ours may listen on
SETTINGS_CLASSES = {
    "ingest_corpus": settings.IngestSettings,
    "train_landmark_generator": settings.LandmarkGeneratorTraining,
    "train_renderer": settings.RendererTraining,
    "publish": settings.ModelsSettings,
    "bulk_dubbing": settings.BulkDubSettings,
}
OF_UP_ALONE = {
    "evaluate_models": settings.EvaluateSettings,
    "maintain_store": settings.MaintainSettings,
    "review_dubs": settings.ReviewSettings,
    "release_dubs": settings.ReleaseSettings,
}
"""The demo runs no such DAG."""


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else that must live on."""
    process = subprocess.Popen(["sleep", "120"])
    yield process
    process.kill()
    process.wait()


def test_stop_ends_all_descendants_and_nobody_else(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    with services.Services(tmp_path) as started:
        # One child that leaves the session, one that forgets its environment, one that ignores being asked.
        script = "setsid sleep 120 & env -i /bin/sleep 120 & (trap '' TERM; while :; do /bin/sleep 1; done) & wait"
        started.start("family", ["sh", "-c", script], os.environ)
        _wait_until(lambda: len(_family(started)) >= 4)
        family = _family(started)
    assert [process for process in family if _lives(process)] == []
    assert bystander.poll() is None


def test_a_service_that_ends_by_itself_is_named_with_its_log(tmp_path: Path) -> None:
    with services.Services(tmp_path) as started:
        service = started.start("scheduler", ["sh", "-c", "echo no database; exit 3"], os.environ)
        service.process.wait()
        with pytest.raises(services.ServiceError, match=rf"scheduler ended by itself with exit code 3; see {service.log}\."):
            started.wait_for("Airflow", lambda: True)
        assert service.log.read_text() == "no database\n"


def test_a_component_that_ends_is_started_again_when_what_it_left_is_ended(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    told: list[str] = []
    with services.Services(tmp_path) as started:
        supervisor = supervision.Supervisor(started, told.append)
        first = started.start("scheduler", ["sh", "-c", "setsid /bin/sleep 120 & /bin/sleep 120 & wait"], os.environ)
        other = started.start("triggerer", ["sleep", "120"], os.environ)
        _wait_until(lambda: len(started.processes_of(first)) >= 3)
        left = started.processes_of(first)
        first.process.kill()
        _wait_until(lambda: (supervisor.look(), started.started[-1].process is not other.process)[1])
        again = started.started[-1]
        assert again.name == "scheduler"
        assert again.command == first.command
        assert again.process.poll() is None
        assert [process for process in left if _lives(process)] == []
        assert other.process.poll() is None
    assert told == [f"scheduler ended by SIGKILL and is started again in 1 s; its log is {first.log}."]
    assert bystander.poll() is None


def test_a_component_that_ends_at_once_five_times_ends_it_all(tmp_path: Path) -> None:
    told: list[str] = []
    clock = _Clock()
    with services.Services(tmp_path) as started:
        supervisor = supervision.Supervisor(started, told.append, clock)
        log = started.start("ray", ["sh", "-c", "echo begun; exit 3"], os.environ).log

        def look_again_and_again() -> None:
            for _ in range(50):
                started.started[0].process.wait()
                supervisor.look()
                clock.ahead_s += 1.0

        with pytest.raises(services.ServiceError, match=rf"^ray ended 5 times in a row soon after it was started, at last with exit code 3; see {log}\.$"):
            look_again_and_again()
        assert log.read_text() == "begun\n" * 5
    assert [line.partition(";")[0] for line in told] == [f"ray ended with exit code 3 and is started again in {pause} s" for pause in (1, 2, 4, 8)]
    assert all(line.endswith("Airflow's tasks submit them again.") for line in told)


def test_a_component_that_had_come_up_may_end_as_often_as_it_likes(tmp_path: Path) -> None:
    told: list[str] = []
    clock = _Clock()
    with services.Services(tmp_path) as started:
        supervisor = supervision.Supervisor(started, told.append, clock)
        started.start("triggerer", ["sh", "-c", "exit 1"], os.environ)
        for ends in range(1, 8):
            clock.ahead_s += 100.0  # as if it had run for so long
            started.started[0].process.wait()
            supervisor.look()
            clock.ahead_s += 1.0
            supervisor.look()
            assert len(told) == ends
    assert {line.partition(";")[0] for line in told} == {"triggerer ended with exit code 1 and is started again in 1 s"}


def test_a_component_is_started_again_only_once_its_port_is_free(tmp_path: Path) -> None:
    clock, port = _Clock(), services.free_port()
    with services.Services(tmp_path) as started:
        supervisor = supervision.Supervisor(started, lambda line: None, clock)
        first = started.start("api-server", ["sh", "-c", "exit 1"], os.environ, ports=[port])
        first.process.wait()
        supervisor.look()
        clock.ahead_s += 1.0
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            supervisor.look()
            assert started.started == (first,)
            clock.ahead_s += 100.0
            with pytest.raises(services.ServiceError, match=f"api-server cannot be started again: something else listens on its port {port}"):
                supervisor.look()
        supervisor.look()
        assert started.started[0].process.pid != first.process.pid


def test_one_folder_is_used_by_one_run_at_a_time(tmp_path: Path) -> None:
    with services.Services(tmp_path), pytest.raises(services.ServiceError, match="Another run is using"), services.Services(tmp_path):
        pass
    with services.Services(tmp_path):  # free again
        pass


def test_what_a_killed_run_left_behind_is_ended_by_the_next(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    leftover = subprocess.Popen(["sleep", "120"], env={**os.environ, processes.MARK: str(tmp_path.resolve())}, start_new_session=True)
    with services.Services(tmp_path):
        assert leftover.wait(WAIT_S) == -signal.SIGKILL
    assert bystander.poll() is None


def test_airflows_database_is_made_in_a_session_that_is_not_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = tmp_path / "airflow-of-the-test"
    airflow.write_text(f"#!{sys.executable}\nimport os\nprint(os.getsid(0), os.environ[{processes.MARK!r}])\n")
    airflow.chmod(0o755)
    monkeypatch.setattr(services, "AIRFLOW", airflow)
    with services.Services(tmp_path) as started:
        services.migrate_airflow(started, {"AIRFLOW_HOME": str(tmp_path / "airflow")})
    session, mark = (tmp_path / "logs" / "migrate.log").read_text().split()
    assert mark == str(tmp_path.resolve())
    assert int(session) != os.getsid(0)


def test_listening_sockets_are_found_with_their_addresses(tmp_path: Path) -> None:
    with services.Services(tmp_path) as started:
        for name, address in (("inside", "127.0.0.1"), ("outside", EVERYWHERE)):
            started.start(name, [sys.executable, "-m", "http.server", "--bind", address, str(services.free_port())], os.environ)
        _wait_until(lambda: len(started.listeners()) == 2)
        inside, outside = started.listeners()
        assert (inside.component, inside.process, inside.address, inside.is_inside) == ("inside", "http.server", "127.0.0.1", True)
        assert (outside.component, outside.process, outside.address, outside.is_inside) == ("outside", "http.server", EVERYWHERE, False)
        up.require_inside([inside])
        with pytest.raises(services.ServiceError, match=rf"beyond this machine: outside \(http.server\) on {EVERYWHERE}:{outside.port}; all of it was ended"):
            up.require_inside([inside, outside])


@pytest.mark.parametrize(
    ("address", "inside"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), (EVERYWHERE, False), ("::", False), ("10.0.0.1", False)]
)
def test_loopback_is_told_from_everything_else(address: str, inside: bool) -> None:
    assert processes.is_loopback(address) is inside


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert services.free_port(port) not in (port, 0)
    assert services.free_port(port) == port
    assert len(set(services.free_ports(5))) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_run_that_a_script_started_in_the_background(tmp_path: Path, number: int) -> None:
    script = f"""
import os, sys, time
sys.path.insert(0, {str(LOCAL)!r})
import services
from pathlib import Path
from types import SimpleNamespace
try:
    with services.ended_by_signals(), services.Services(Path({str(tmp_path)!r})) as started:
        started.start("child", ["sleep", "120"], os.environ)
        print("started", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("ended", flush=True)
"""
    command = f'trap "" INT; exec {sys.executable} -c "$0"'  # as sh does for a command with & behind it
    process = subprocess.Popen(["sh", "-c", command, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.communicate(timeout=WAIT_S)[0] == "ended\n"
    assert processes.processes_of(tmp_path.resolve()) == []


def test_the_password_is_kept_and_private(tmp_path: Path) -> None:
    password = environments.admin_password(tmp_path)
    assert len(password) >= 16
    assert environments.admin_password(tmp_path) == password
    assert stat.S_IMODE((tmp_path / "passwords.json").stat().st_mode) == 0o600


def test_an_airflow_has_a_name_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUBMILL_DEPLOYMENT", raising=False)
    names = [environments.deployment(home) for home in (tmp_path / "a", tmp_path / "a", tmp_path / "b")]
    assert names[0] == names[1] != names[2]
    monkeypatch.setenv("DUBMILL_DEPLOYMENT", "studio")
    assert environments.airflow_environment(tmp_path / "a", tmp_path, "http://127.0.0.1:8265")["DUBMILL_DEPLOYMENT"] == "studio"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_airflow_is_put_on_postgres_by_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    file = tmp_path / "url"
    file.write_text(f"{scheme}://airflow:of-a-test@db:5433/airflow\n")
    for name, value in (("DUBMILL_DATABASE_URL", file.read_text().strip()), ("DUBMILL_DATABASE_URL_FILE", str(file))):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            url = environments.database_url()
            assert url == "postgresql+psycopg2://airflow:of-a-test@db:5433/airflow"
            assert environments.airflow_environment(tmp_path, tmp_path, "http://127.0.0.1:8265", database=url)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == url
            assert name not in environments.ray_environment()  # a job has no need of it
    assert environments.database_url() == ""
    assert environments.airflow_environment(tmp_path, tmp_path, "http://127.0.0.1:8265")["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite:///")


@pytest.mark.parametrize(
    "url", ["mysql://airflow:of-a-test@db/airflow", "airflow:of-a-test@db/airflow", "postgresql://airflow:of-a-test@[db/airflow", "postgresql://db"]
)
def test_a_database_that_is_none_is_refused_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["up.py", "--folder", str(tmp_path / "up")])
    monkeypatch.setenv("DUBMILL_DATABASE_URL", url)
    assert up.main() == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("up: DUBMILL_DATABASE_URL must be like postgresql://")
    assert len(shown.err.splitlines()) == 1
    assert "of-a-test" not in shown.out + shown.err
    assert not (tmp_path / "up").exists()


def test_pools_that_are_not_there_are_made_and_the_others_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUBMILL_POOL_GPU", "cards")
    names = pools.pool_names()
    assert names == {"DUBMILL_POOL_CPU": "cpu", "DUBMILL_POOL_GPU": "cards"}
    assert pools.slots_of_this_machine(4)["DUBMILL_POOL_CPU"] == 4
    assert pools.slots_of_this_machine(4)["DUBMILL_POOL_GPU"] >= 1  # tasks of a pool without a slot would wait for ever
    with _airflow_stand_in({"cpu"}) as (url, asked):
        pools.make_pools(url, "secret", {"cpu": 4, "cards": 1})
    assert asked == [{"name": "cards", "slots": 1, "include_deferred": True}]
    with _airflow_stand_in(set()) as (url, _), pytest.raises(services.ServiceError, match="answers 401 to /auth/token"):
        pools.make_pools(url, "wrong", {"cpu": 4})


def test_what_can_be_reached_from_beyond_while_a_training_runs_is_told_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listeners = [processes.Listener("ray", "trainer", "127.0.0.1", 8265), processes.Listener("ray", "trainer", EVERYWHERE, 5500)]
    waits = iter([None] * 4)
    monkeypatch.setattr(up, "CHECK_SOCKETS_EVERY", 1)
    monkeypatch.setattr(up.time, "sleep", lambda _: next(waits))
    monkeypatch.setattr(up, "Supervisor", lambda *_: SimpleNamespace(look=lambda: None))
    with pytest.raises(StopIteration):
        up._watch(SimpleNamespace(listeners=lambda: listeners))
    said = capsys.readouterr().out
    assert said.count("ray (trainer) on 0.0.0.0:5500 can be reached from beyond this machine") == 1
    assert "8265" not in said


def test_the_table_of_sockets_has_a_line_for_each() -> None:
    rows = [processes.Listener("api-server", "airflow", "127.0.0.1", 8080), processes.Listener("ray", "gcs_server", "::ffff:127.0.0.1", 40001)]
    assert up.sockets_table(rows).splitlines() == [
        "Listening   program     address            port",
        "api-server  airflow     127.0.0.1          8080",
        "ray         gcs_server  ::ffff:127.0.0.1  40001",
    ]


def test_nothing_leads_away_from_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    monkeypatch.setenv("no_proxy", "intranet")
    monkeypatch.delenv("NO_PROXY", raising=False)
    ray, airflow = environments.ray_environment(), environments.airflow_environment(tmp_path, tmp_path / "settings", "http://127.0.0.1:8266", 8081)
    for environment in (ray, airflow):
        assert "RAY_ADDRESS" not in environment
        assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert ray["RAY_AUTH_MODE"] == "disabled"
    assert json.loads(airflow["AIRFLOW_CONN_RAY_DEFAULT"]) == {"conn_type": "http", "host": "127.0.0.1", "port": 8266}
    assert airflow["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8081/execution/"


def test_a_ray_head_is_on_loopback_only_runs_jobs_and_ends_whole(tmp_path: Path) -> None:
    import httpx

    with services.Services(tmp_path) as started:
        url = started.start_ray(cpus=1)
        assert {(listener.component, listener.is_inside) for listener in started.listeners()} == {("ray", True)}
        client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        job = {"submission_id": "t.a1", "entrypoint": f"{sys.executable} -c 'import schemas; print(schemas.__name__)'"}
        # A head answers before it takes jobs; the operator waits for that too.
        _wait_until(lambda: services._answers(lambda: (client.post("/api/jobs/", json=job), client.get("/api/jobs/t.a1").is_success)[1]), 120)
        _wait_until(lambda: client.get("/api/jobs/t.a1").json()["status"] == "SUCCEEDED", 60)
        assert "schemas\n" in client.get("/api/jobs/t.a1/logs").json()["logs"]
        family, temp = _family(started), started._ray_temp
    assert [process for process in family if _lives(process)] == []
    assert not temp.exists()
    assert [list(folder.glob("gcs_server.out")) != [] for folder in (tmp_path / "logs" / "ray").iterdir()] == [True]


def test_the_first_settings_are_valid_and_never_written_over(tmp_path: Path) -> None:
    up.write_first_settings(tmp_path)
    _require_valid(tmp_path / "settings", SETTINGS_CLASSES | OF_UP_ALONE)
    kept = tmp_path / "settings" / "ingest_corpus.yaml"
    kept.write_text("store: /elsewhere\n")
    up.write_first_settings(tmp_path)
    assert kept.read_text() == "store: /elsewhere\n"


@pytest.mark.parametrize("budget", ["full", "tiny"])
def test_the_demos_settings_are_valid(tmp_path: Path, budget: str) -> None:
    demo.write_settings_files(demo.Demo(tmp_path, demo.BUDGETS[budget], tmp_path / "clips", tmp_path / "speech.wav"))
    _require_valid(tmp_path / "settings", SETTINGS_CLASSES)


@pytest.mark.parametrize("options", [["--clips", "nowhere"], ["--speech", "nowhere.wav"]])
def test_a_demo_of_files_that_are_not_there_ends_with_one_sentence(tmp_path: Path, options: list[str]) -> None:
    done = subprocess.run([sys.executable, LOCAL / "demo.py", "--out", tmp_path / "out", *options], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("demo: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_of_airflows_log_only_the_telling_lines_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    operator = "[airflow.task.operators.dags.operators.ray_job.RayJobOperator] loc=ray_job.py:141"
    trigger = "[dags.operators.ray_job_trigger.RayJobTrigger] loc=ray_job_trigger.py:162"
    lines = [
        "2026-01-01T00:00:00Z [info     ] DAG bundles loaded [airflow.dag_processing] loc=manager.py:304\n",
        f"2026-01-01T00:00:00Z [info     ] progress 1/3 batch a     {trigger}\n",
        f"2026-01-01T00:00:00Z [info     ] progress 2/3 batch b     {trigger}\n",  # too soon after the first
        f"2026-01-01T00:00:00Z [warning  ] Ray at http://127.0.0.1:8265 does not answer; trying again in 1.0 s. {operator}\n",
        "airflow.sdk.exceptions.AirflowException: Ray job a.b.g0.a1 failed: The disk is full.\n",
    ]
    log = StringIO()
    sentence = dag_runs._follow(iter(lines), log, "ingest_corpus")
    assert sentence == "Ray job a.b.g0.a1 failed: The disk is full."
    assert log.getvalue() == "".join(lines)
    assert capsys.readouterr().out.splitlines() == [
        "  ingest_corpus: progress 1/3 batch a",
        "  ingest_corpus: Ray at http://127.0.0.1:8265 does not answer; trying again in 1.0 s.",
    ]


def test_runs_of_the_demo_get_folders_of_their_own(tmp_path: Path) -> None:
    first, second = demo._new_folder(tmp_path), demo._new_folder(tmp_path)
    assert (first.name, second.name) == ("1", "2")
    for folder in (first, second):
        demo._point_latest_at(folder)
    assert (tmp_path / "latest").resolve() == second


class _Clock:
    """The steady clock, which a test can put ahead."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@contextmanager
def _airflow_stand_in(there: set[str]) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """The two calls of Airflow's REST API that make pools, and the pools that were asked for. The password is `secret`."""
    asked: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/auth/token":
                self.answer(201 if body["password"] == "secret" else 401, {"access_token": "of-a-test"})
                return
            asked.append(body)
            self.answer(201 if self.headers["Authorization"] == "Bearer of-a-test" else 401, body)

        def do_GET(self) -> None:
            self.answer(200, {"pools": [{"name": name} for name in there]})

        def answer(self, status: int, content: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def _require_valid(folder: Path, kinds: dict[str, type[settings.Settings]]) -> None:
    assert {file.stem for file in folder.glob("*.yaml")} == set(kinds)
    for dag_id, kind in kinds.items():
        check_settings(kind, yaml.safe_load((folder / f"{dag_id}.yaml").read_text()))


def _family(started: object) -> list[int]:
    return started._processes()  # type: ignore[attr-defined,no-any-return]


def _lives(process: int) -> bool:
    return processes.session_of_running(process) is not None


def _wait_until(is_so: Callable[[], bool], limit_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_paths_for_the_demo_may_hold_quotes_spaces_and_dollar_signs(tmp_path: Path) -> None:
    show = tmp_path / "show"
    show.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[2:]))\n")
    show.chmod(0o755)
    clips, speech = """it's "my" $HOME `id` footage""", "s peech.wav"
    command = ["make", "--silent", "--old-file=setup", "demo", f"DATA={show}", f"CLIPS={clips}"]
    done = subprocess.run(command, cwd=LOCAL.parents[1], env={**os.environ, "SPEECH": speech, "OUT": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"--clips={clips}", f"--speech={speech}"]
