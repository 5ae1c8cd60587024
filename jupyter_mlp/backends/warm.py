"""Training processes that need not import torch: they fork from a warm parent that has it already.

An import of torch, Lightning and the exporter takes longer than many a first training. The first job of an environment
starts its processes afresh; when it has ended its supervisor leaves a parent behind (warm_parent.py), which has imported
all that and nothing of the user's, has run nothing, and ends when it was not wanted for a while. The kernel is never forked.

    supervisor ---- run, variables, files ----> warm parent ---fork---> training process, in a session of its own
        <------------------------------ its pid --------------------------------
        ------------------------------- go -------------------------------------> (or nothing: then it ends)
        <----------- how it ended -----------------

A GPU's driver that was begun does not survive a fork, so the parent begins none; one that finds that an import has, ends.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_mlp.core.identity import digest
from jupyter_mlp.store import runtime
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import Process, identify, spawn

HEAD = struct.Struct("!I")
GO = b"g"  # without it a forked process does nothing: whoever wanted it may have started another one since
UNKNOWN = 255  # how a process ended that nobody was told of
_PATIENCE_S = 2.0  # a parent that does not answer is not there
_LOST_S = 0.1
# What a process reads once, when it starts or imports: with another value it needs another parent.
_READ_ONCE = ("PYTHON", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "TORCH", "PYTORCH", "LD_", "DYLD_", "MALLOC_", "FSSPEC_")


class Child:
    """A process that the warm parent forked; told apart and asked like a subprocess.Popen."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self._me: Process = identify(pid)
        self._connection = connection
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, minus the signal that killed it, or None while it runs."""
        return self._look(0)

    def wait(self) -> int:
        """Wait for its end."""
        while (status := self._look(None)) is None:
            pass
        return status

    def _look(self, limit_s: float | None) -> int | None:
        if self._status is None and self._connection.fileno() >= 0 and select.select([self._connection], [], [], limit_s)[0]:
            told = _told(self._connection)
            if told is not None:
                self._status = int(told["status"])
            self._connection.close()
        if self._status is None and self._connection.fileno() < 0:  # its parent was killed, and it goes on without
            if limit_s is None:
                select.select([], [], [], _LOST_S)
            if not self._me.alive:
                self._status = UNKNOWN
        return self._status


def fork(run: Path, environment: Mapping[str, str], log: int, held: int) -> Child | None:
    """Let the warm parent of this environment start a training process; None where there is none.

    Args:
        environment: all variables of the process.
        log: open file for what it prints. `held`: open file that it inherits, and finds under MLP_HELD.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_PATIENCE_S)
        connection.connect(str(address()))
        wish = json.dumps({"run": str(run), "environment": dict(environment)}).encode()
        socket.send_fds(connection, [HEAD.pack(len(wish))], [log, held])
        connection.sendall(wish)
        told = _told(connection)
        if told is not None and "pid" in told:
            connection.sendall(GO)
            connection.settimeout(None)
            return Child(connection, int(told["pid"]))
    except OSError:
        pass
    connection.close()
    return None


def keep(idle_s: float) -> None:
    """Leave a warm parent behind for the next job, unless there is one; it ends after `idle_s` without a job."""
    if idle_s <= 0 or Lease(address().with_suffix(".lock")).held:
        return
    where = address().parent
    command = [sys.executable, "-m", "jupyter_mlp.backends.warm_parent", str(idle_s)]
    spawn(command, where / "log", {"PYTHONUNBUFFERED": "1"}, where)


def address() -> Path:
    """Return where the parent of this environment listens: same Python, same packages, same variables that are read once."""
    once = {name: value for name, value in os.environ.items() if name.startswith(_READ_ONCE) and name != "PYTHONUNBUFFERED"}
    return runtime.folder("warm") / digest(sys.executable, sys.version, once, list(_changed_at()))[:16]


def _changed_at() -> Iterator[int]:
    """When packages were last installed or removed, and when ours was last changed."""
    for entry in sys.path:
        with suppress(OSError):
            if entry.endswith(("site-packages", "dist-packages")):
                yield os.stat(entry).st_mtime_ns
    yield max(path.stat().st_mtime_ns for path in Path(__file__).parents[1].rglob("*.py"))


def _told(connection: socket.socket) -> dict[str, Any] | None:
    """Return the parent's next word; None when it is gone."""
    try:
        head = connection.recv(HEAD.size, socket.MSG_WAITALL)
        if len(head) < HEAD.size:
            return None
        (size,) = HEAD.unpack(head)
        found: dict[str, Any] = json.loads(connection.recv(size, socket.MSG_WAITALL))
        return found
    except OSError:
        return None
