"""An S3 protocol server on loopback, for tests of what reads and writes s3:// places; and one that has bad days."""

import http.client
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
REFUSED = (
    b"<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match.</Message>"
    b"<AWSAccessKeyId>AKIA-OF-SOMEBODY</AWSAccessKeyId></Error>"
)
ANSWERS = {"throttle": (503, SLOW_DOWN), "refuse": (403, REFUSED)}
HOP_HEADERS = {"connection", "transfer-encoding", "server", "date"}


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """The s3:// prefix of an empty bucket; s3fs finds the server by the environment."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        with s3_at(f"http://{host}:{port}"):
            fsspec.filesystem("s3", client_kwargs={"region_name": "eu-central-1"}).mkdir(name)
            yield f"s3://{name}"
    running.stop()


@contextmanager
def s3_at(address: str) -> Iterator[None]:
    """Within it s3:// is found at that address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        fsspec.filesystem("s3").clear_instance_cache()
        yield
    fsspec.filesystem("s3").clear_instance_cache()


@dataclass
class Request:
    """A request as a `Troubled` server sees it. number: from 0, of those with the same method."""

    method: str
    path: str
    number: int


Trouble = Callable[[Request], str]
"""What happens to a request: "" nothing, "throttle" 503 SlowDown, "cut" the connection is dropped in mid-body, "slow" it comes a second late,
"lose" it is done but the answer is lost, "refuse" 403 SignatureDoesNotMatch."""


@dataclass
class Troubled:
    """What a server with troubles saw and did."""

    address: str = ""
    requests: list[Request] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)

    def count(self, method: str) -> int:
        """Requests with that method."""
        return sum(request.method == method for request in self.requests)


@contextmanager
def troubled_s3(origin: str, trouble: Trouble) -> Iterator[Troubled]:
    """An S3 server that passes requests on to the one at `origin` (http://host:port), with troubles; within it s3:// is found there."""
    seen = Troubled()
    server = _TroubledServer(origin.removeprefix("http://"), trouble, seen)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    seen.address = f"http://127.0.0.1:{server.server_address[1]}"
    with s3_at(seen.address):
        yield seen
    server.shutdown()
    server.server_close()


class _TroubledServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, origin: str, trouble: Trouble, seen: Troubled) -> None:
        super().__init__(("127.0.0.1", 0), _TroubledHandler)
        self.origin, self._trouble, self._seen, self._lock = origin, trouble, seen, threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed has no more to say; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def take(self, method: str, path: str) -> str:
        """Counts a request; gives the trouble that it meets with."""
        with self._lock:
            request = Request(method, path, self._seen.count(method))
            self._seen.requests.append(request)
            kind = self._trouble(request)
            self._seen.troubles[kind] += 1
        return kind


class _TroubledHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _TroubledServer

    def handle_any(self) -> None:
        """A request of any method."""
        body = self._body()
        kind = self.server.take(self.command, self.path)
        if kind in ANSWERS:
            self._answer(ANSWERS[kind][0], {"Content-Type": "application/xml"}, ANSWERS[kind][1])
            return
        if kind == "slow":
            time.sleep(1.0)
        status, headers, content = self._passed_on(body)
        if kind == "lose":
            self.close_connection = True
        else:
            self._answer(status, headers, content, len(content) // 2 if kind == "cut" else None)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(pieces)

    def _passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.origin, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"transfer-encoding", "content-length", "expect"}}
        connection.request(self.command, self.path, body=body, headers=headers | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.title(): value for name, value in answer.getheaders() if name.lower() not in HOP_HEADERS}, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, cut_at: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut_at])
        self.close_connection = self.close_connection or cut_at is not None

    def log_message(self, *arguments: object) -> None:
        """Nothing is logged."""


for _method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
    setattr(_TroubledHandler, f"do_{_method}", _TroubledHandler.handle_any)
