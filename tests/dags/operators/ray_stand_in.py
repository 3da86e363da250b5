"""A stand-in for Ray's job API: the same paths, answers and status codes, and jobs whose course a test decides."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

NODE = "0f" * 28


@dataclass
class StandInJob:
    """A job that goes through `statuses`, one at each look, and stays with the last; or one that runs for a number of seconds."""

    entrypoint: str
    statuses: list[str]
    logs: str = ""
    message: str = ""
    looks: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    runs_for_s: float | None = None
    prints_every_s: float | None = None  # a line of progress while it runs
    stops_at: float | None = None  # what is asked to stop goes on until then

    def look(self) -> str:
        """Its status now."""
        if self.stops_at is not None and time.time() >= self.stops_at and not self._is_over():
            self.statuses = ["STOPPED"]
        status = self.statuses[min(self.looks, len(self.statuses) - 1)]
        self.looks += 1
        if self.runs_for_s is not None and status == "RUNNING":
            return "RUNNING" if time.time() < self.began + self.runs_for_s else "SUCCEEDED"
        return status

    def printed(self) -> bytes:
        """Its log now."""
        if self.prints_every_s is None:
            return self.logs.encode()
        ran_s = min(time.time() - self.began, self.runs_for_s or 0.0)
        count, total = (int(seconds / self.prints_every_s) for seconds in (ran_s, self.runs_for_s or 0.0))
        return "".join(f"progress {number}/{total} of what there is to do\n" for number in range(1, count + 1)).encode()

    def _is_over(self) -> bool:
        return self.statuses[min(self.looks, len(self.statuses) - 1)] in ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass
class RayStandIn:
    """Use as a context: `url` is where it listens. Set `course` to decide what becomes of the next jobs."""

    course: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    runs_for_s: float | None = None
    logs: str = ""
    message: str = ""
    token: str | None = None
    broken_answers: int = 0  # this many requests get 503 first
    submit_answers_error: bool = False  # the job is taken, but the answer is 500
    answer_takes_s: float = 0.0
    stop_takes_s: float = 0.0  # a stop is answered at once, and has happened after that
    jobs: dict[str, StandInJob] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)  # when, in seconds of the epoch, and what
    log_bytes: int = 0  # sent
    headers: dict[str, str] = field(default_factory=dict)  # of the latest request
    submissions: Counter[str] = field(default_factory=Counter)
    port: int = 0
    on_submit: Callable[[StandInJob], None] = lambda _: None  # does the job's work, or changes its course
    tls: Any = None  # an ssl.SSLContext of a server

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.answer(self, "GET")

            def do_POST(self) -> None:
                stand_in.answer(self, "POST")

            def log_message(self, *_: object) -> None:
                """Says nothing: requests are kept in `asked`."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

        self.server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self.server.server_port
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def requests(self) -> list[str]:
        """Method and path of each request so far."""
        return [what for _, what in self.asked]

    def restart_and_forget(self) -> None:
        """What a head without a database of its own does: no job is known any more."""
        self.jobs.clear()

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        """Answers one request as Ray 2.60 does."""
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.asked.append((time.time(), f"{method} {handler.path}"))
        self.headers = dict(handler.headers.items())
        time.sleep(self.answer_takes_s)
        code, content = self._respond(handler, method, body)
        payload = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(payload)))
        handler.end_headers()
        handler.wfile.write(payload)

    def _respond(self, handler: BaseHTTPRequestHandler, method: str, body: dict[str, Any] | None) -> tuple[int, object]:
        if self.broken_answers:
            self.broken_answers -= 1
            return 503, "the head is starting"
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, "Unauthorized"
        place = urlsplit(handler.path)
        if place.path == "/api/v0/logs/file":
            return self._log(parse_qs(place.query))
        parts = place.path.removeprefix("/api/jobs").strip("/").split("/")
        if parts == [""]:
            return self._submit(body or {}) if method == "POST" else (200, [self._told(name) for name in list(self.jobs)])
        return self._about(parts)

    def _submit(self, body: dict[str, Any]) -> tuple[int, object]:
        submission_id = body["submission_id"]
        if submission_id in self.jobs:
            return 500, f"Traceback (most recent call last):\n  ...\nValueError: Job with submission_id {submission_id} already exists."
        job = StandInJob(body["entrypoint"], list(self.course), self.logs, self.message, runs_for_s=self.runs_for_s, runtime_env=body["runtime_env"])
        job.environment, job.metadata = body["runtime_env"]["env_vars"], body.get("metadata") or {}
        self.jobs[submission_id] = job
        self.submissions[submission_id] += 1
        self.on_submit(job)
        return (500, "Traceback\nTimeoutError") if self.submit_answers_error else (200, {"submission_id": submission_id})

    def _about(self, parts: list[str]) -> tuple[int, object]:
        job = self.jobs.get(parts[0])
        if job is None:
            return 404, f"Job {parts[0]} does not exist"
        if parts[1:] == ["stop"]:
            self.stopped.append(parts[0])
            job.stops_at = time.time() + self.stop_takes_s
            return 200, {"stopped": True}
        return 200, self._told(parts[0])

    def _told(self, submission_id: str) -> dict[str, Any]:
        job = self.jobs[submission_id]
        return {
            "type": "SUBMISSION",
            "status": job.look(),
            "message": job.message,
            "submission_id": submission_id,
            "metadata": job.metadata,
            "start_time": int(job.began * 1000),
            "driver_node_id": NODE,
        }

    def _log(self, query: dict[str, list[str]]) -> tuple[int, object]:
        """The last lines of a log; a last line without an end counts as one."""
        name = query["filename"][0].removeprefix("job-driver-").removesuffix(".log")
        if query["node_id"] != [NODE] or name not in self.jobs:
            return 500, "Could not find a log file."
        wanted = int(query["lines"][0])
        content = b"".join(re.findall(rb"[^\n]*\n|[^\n]+$", self.jobs[name].printed())[-wanted:])
        self.log_bytes += len(content)
        return 200, content
