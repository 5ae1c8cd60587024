"""A webhook on this machine, for what is told to others."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """A webhook on this machine: its URL, what came, and the status to answer with next where it is not 200."""
    came: list[dict[str, Any]] = []
    statuses: list[int] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = statuses.pop() if statuses else 200
            if status == 200:
                came.append(told)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", came, statuses
        server.shutdown()
