"""A real HTTP server for files: byte ranges, ETags, lists of folders - and what servers do to their readers now and then."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class FileServer:
    """A folder over HTTP.

    Attributes:
        told: what was asked: method, path, range. `sent`: bytes of files that were sent.
        hangs_up: connections that are still broken in the middle of an answer. `ranges`: whether it knows ranges.
        closed: folders that nobody may read. `then`: what happens right after a file was asked
            about; whoever holds `lock` may set it, and what was there before is over.
    """

    folder: Path
    told: list[tuple[str, str, str]] = field(default_factory=list)
    sent: int = 0
    hangs_up: int = 0
    ranges: bool = True
    closed: tuple[str, ...] = ()
    then: Callable[[str], None] = lambda path: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def url(self) -> str:
        """The URL of the folder."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(folder: Path) -> Iterator[FileServer]:
    """Serve a folder on a free port of this machine."""
    server = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(False)
            with server.lock:
                server.then(self.path)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, body: bool) -> None:
            wanted = self.headers.get("Range", "")
            server.told.append((self.command, self.path, wanted))
            path = folder / self.path.lstrip("/")
            if any(self.path.startswith(f"/{one}") for one in server.closed):
                self._send(403, b"", {}, body)
            elif path.is_dir():
                links = "".join(f'<a href="/{one.relative_to(folder)}{"/" * one.is_dir()}">x</a>' for one in sorted(path.iterdir()))
                self._send(200, links.encode(), {"Content-Type": "text/html"}, body)
            elif not path.is_file():
                self._send(404, b"", {}, body)
            else:
                stat = path.stat()
                headers = {"ETag": f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', "Accept-Ranges": "bytes"}
                if wanted and server.ranges:
                    first, last = wanted.removeprefix("bytes=").split("-")
                    with path.open("rb") as file:
                        file.seek(int(first))
                        content = file.read(int(last) + 1 - int(first))
                    self._send(206, content, {**headers, "Content-Range": f"bytes {first}-{last}/{stat.st_size}"}, body)
                elif body:
                    self._send(200, path.read_bytes(), headers, body)
                else:
                    self._send(200, b"", {**headers, "Content-Length": str(stat.st_size)}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body and content:
                if server.hangs_up:
                    server.hangs_up -= 1
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return
                server.sent += len(content)
                self.wfile.write(content)

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


if __name__ == "__main__":  # a process of its own, which ends with whoever started it
    with running(Path(sys.argv[1])) as own:
        sys.stdout.write(f"{own.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
