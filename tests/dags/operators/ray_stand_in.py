"""A stand-in for Ray's job API: the same paths, answers and status codes, and jobs whose course a test decides."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class StandInJob:
    """A job that goes through `statuses`, one at each look, and stays with the last."""

    entrypoint: str
    statuses: list[str]
    logs: str = ""
    message: str = ""
    looks: int = 0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class RayStandIn:
    """Use as a context: `url` is where it listens. Set `course` to decide what becomes of the next jobs."""

    course: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    logs: str = ""
    message: str = ""
    token: str | None = None
    broken_answers: int = 0  # this many requests get 503 first
    submit_answers_error: bool = False  # the job is taken, but the answer is 500
    jobs: dict[str, StandInJob] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    port: int = 0
    on_submit: Callable[[StandInJob], None] = lambda _: None  # does the job's work, or changes its course

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.answer(self, "GET")

            def do_POST(self) -> None:
                stand_in.answer(self, "POST")

            def log_message(self, *_: object) -> None:
                """Says nothing: requests are kept in `requests`."""

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        """Answers one request as Ray 2.60 does."""
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.requests.append(f"{method} {handler.path}")
        code, content = self._respond(handler, method, body)
        payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
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
        parts = handler.path.removeprefix("/api/jobs").strip("/").split("/")
        if method == "POST" and parts == [""]:
            return self._submit(body or {})
        return self._about(parts)

    def _submit(self, body: dict[str, Any]) -> tuple[int, object]:
        submission_id = body["submission_id"]
        if submission_id in self.jobs:
            return 500, f"Traceback (most recent call last):\n  ...\nValueError: Job with submission_id {submission_id} already exists."
        self.jobs[submission_id] = StandInJob(body["entrypoint"], list(self.course), self.logs, self.message, environment=body["runtime_env"]["env_vars"])
        self.on_submit(self.jobs[submission_id])
        return (500, "Traceback\nTimeoutError") if self.submit_answers_error else (200, {"submission_id": submission_id})

    def _about(self, parts: list[str]) -> tuple[int, object]:
        job = self.jobs.get(parts[0])
        if job is None:
            return 404, f"Job {parts[0]} does not exist"
        if parts[1:] == ["logs"]:
            return 200, {"logs": job.logs}
        if parts[1:] == ["stop"]:
            self.stopped.append(parts[0])
            job.statuses = ["STOPPED"]
            return 200, {"stopped": True}
        status = job.statuses[min(job.looks, len(job.statuses) - 1)]
        job.looks += 1
        return 200, {"status": status, "message": job.message, "submission_id": parts[0]}
