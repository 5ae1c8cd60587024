"""Detached processes: started so that they outlive kernel and Lab, and known by pid and start time together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import signal

    import psutil


class Process(NamedTuple):
    """A process of ours. A pid alone can be reused by the system; with its start time it cannot be mistaken."""

    pid: int
    started_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return the identity as JSON types."""
        return {"pid": self.pid, "started_at": self.started_at}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Process:
        """Read what `to_dict` wrote."""
        return cls(int(value["pid"]), float(value["started_at"]))

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self._found() is not None

    def stop(self, wait_s: float = 5.0) -> None:
        """Ask the process and its session to end, then make it; a process that is gone is fine."""
        import signal

        import psutil

        for request, patience in ((signal.SIGTERM, wait_s), (signal.SIGKILL, 5.0)):
            found = self._found()
            if found is None:
                return
            self._signal(request)
            psutil.wait_procs([found], timeout=patience)

    def send(self, request: signal.Signals) -> None:
        """Send a signal to the process and, where it leads one, to its group; only if it is still this process."""
        if self._found() is not None:
            self._signal(request)

    def end_orphans(self) -> None:
        """Kill what this process, the leader of its session, started and left behind when it was killed itself."""
        import psutil

        if psutil.pid_exists(self.pid):
            return  # it lives, or another process has its number by now: then its session has ended
        for process in psutil.process_iter(["create_time"]):
            try:
                if os.getsid(process.pid) == self.pid and process.info["create_time"] >= self.started_at - 1.0:
                    process.kill()
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue

    def _signal(self, request: signal.Signals) -> None:
        try:
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, request)
            else:
                os.kill(self.pid, request)
        except ProcessLookupError:
            pass

    def _found(self) -> psutil.Process | None:
        import psutil

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def import_path() -> str:
    """Return a PYTHONPATH with which a process runs the code of this one, wherever that was imported from."""
    package = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))


def spawn(
    argv: Sequence[str],
    log: Path,
    environment: Mapping[str, str | None] | None = None,
    folder: Path | None = None,
    held: Sequence[int] = (),
) -> Process:
    """Start `argv` in a session of its own, output appended to `log` (0600), no standard input; return at once.

    Args:
        environment: variables besides our own; None takes one away.
        held: open files that it inherits, under the same numbers (leases).
    """
    import subprocess

    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            env={name: value for name, value in {**os.environ, **(environment or {})}.items() if value is not None},
            cwd=folder,
            start_new_session=True,
            close_fds=True,
            pass_fds=held,
        )
    finally:
        os.close(handle)
    return identify(child.pid)


def identify(pid: int) -> Process:
    """Return the identity of a running process."""
    import psutil

    try:
        return Process(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return Process(pid, time.time())


def this_process() -> Process:
    """Return the identity of this process; where the system says it in /proc, without importing anything."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        booted = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return identify(os.getpid())
    return Process(os.getpid(), booted + ticks / os.sysconf("SC_CLK_TCK"))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port of this machine that nobody listens on at `address`.

    Raises:
        OSError: the address is none of this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])
