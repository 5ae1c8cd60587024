"""What Spark leaves of sessions that ran Python: its own daemon, as the server starts it, with this process as the server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from jupyter_mlp.backends.spark_daemons import Idle

SECRET = "not one"


@contextmanager
def daemon() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Spark's daemon and the port on which it takes orders."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyspark.daemon", "pyspark.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHON_WORKER_FACTORY_SECRET": SECRET,
            "SPARK_PYTHON_RUNTIME": "PYTHON_WORKER",
            "PYTHON_UNIX_DOMAIN_ENABLED": "false",
        },
    )
    assert process.stdout is not None
    try:
        yield process, int.from_bytes(process.stdout.read(4), "big")
    finally:
        process.kill()
        process.communicate()


def test_a_daemon_without_workers_ends_and_one_with_a_worker_stays() -> None:
    idle = Idle(patience_s=0.5)
    dead = subprocess.Popen([sys.executable, "-c", ""])  # nobody waits for it, as for the shell that started the server
    with daemon() as (working, port), daemon() as (left, _), socket.create_connection(("127.0.0.1", port)):
        deadline = time.monotonic() + 20
        while not psutil.Process(working.pid).children() and time.monotonic() < deadline:
            time.sleep(0.05)
        idle.end(os.getpid())
        assert left.poll() is None, "not at the first look"
        time.sleep(0.6)
        idle.end(os.getpid())
        assert left.wait(10) is not None
        dead.wait()
        assert working.poll() is None and psutil.Process(working.pid).children()


def test_a_server_that_is_gone_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    Idle(patience_s=0.0).end(gone.pid)
