"""A stand-in for a chat program's webhook: it keeps what is posted, and answers as a test says."""

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "T0KEN-OF-A-TEST"


@dataclass
class WebhookStandIn:
    """Use as a context: `url` holds a secret, as such URLs do."""

    status: int = 200
    silent_s: float = 0.0
    told: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stand_in.told.append(json.loads(body) | {"content-type": self.headers["Content-Type"]})
                time.sleep(stand_in.silent_s)
                self.send_response(stand_in.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://user:{SECRET}@127.0.0.1:{self.server.server_port}/services/{SECRET}?key={SECRET}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
