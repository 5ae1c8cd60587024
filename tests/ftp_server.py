"""A real FTP server for a folder: a filesystem of one connection, which knows neither tags nor several questions at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve a folder to everybody on a free port of this machine; yield its URL, and what ends the server at once."""
    authorizer = DummyAuthorizer()
    authorizer.add_anonymous(str(folder))
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "log": lambda *_, **__: None})
    server = FTPServer(("127.0.0.1", 0), handler)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()

    try:
        yield f"ftp://127.0.0.1:{server.address[1]}", stop
    finally:
        stop()
