"""A real Redis server on a free port of the loopback, without a file."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

LACKS = "no redis-server: apt-get install redis-server"


def there() -> bool:
    """Whether Debian's redis-server is installed."""
    return shutil.which("redis-server") is not None


@contextmanager
def running(password: str = "") -> Iterator[str]:
    """Give the address of a server that ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([*argv, *(["--requirepass", password] if password else [])], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.02)
        yield f"redis://:{password}@127.0.0.1:{port}/0" if password else f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
