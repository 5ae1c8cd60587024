"""The training processes of one attempt: started together, watched, and never two attempts of a run at once.

All of them hold ranks.lock from before they exist until the last has ended, so whoever takes it knows that none is left,
even when the supervisor that started them was killed. They are told what torchrun tells its ranks (RANK, WORLD_SIZE,
MASTER_ADDR ...), so the same worker runs under it; torchrun itself is not between us and them, because it imports torch
once more (1.3 s of each launch) and its ranks go on unseen when it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.backends import warm
from jupyter_mlp.backends.attempting import Ending, verdict, who
from jupyter_mlp.store.attempts import log_of
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import Process, free_port, identify

HELD = "MLP_HELD"  # the number of the open ranks.lock
_GRACE_S = 5.0
_LOOK_S = 0.03
_LEFT_S = 5.0  # for what the ranks left behind to end, once they have


class Ranks:
    """The processes of a run's newest attempt, ours or those of a supervisor that was killed."""

    def __init__(self, run: RunFolder, world: int) -> None:
        self._run, self._world = run, world
        self._lease = Lease(run.path / "ranks.lock")
        self._children: list[subprocess.Popen[bytes] | warm.Child] = []
        self._first: list[int] = []
        self._ooms = 0
        self.attempt = 0

    @property
    def alive(self) -> bool:
        """Whether any process of an attempt runs, whoever started it."""
        return self._lease.held

    def start(self, attempt: int, environment: Mapping[str, str]) -> bool:
        """Start an attempt; False when processes of another one still run."""
        held = self._lease.take()
        if held is None:
            return False
        self.attempt, self._children, self._first, self._ooms = attempt, [], [], _oom_kills()
        try:
            port = free_port()
            for rank in range(self._world):
                self._children.append(self._spawn(rank, held, {**self._told(rank, port), **environment, HELD: str(held)}))
        finally:
            os.close(held)  # from here on the ranks hold it, and nobody else
        known = [identify(child.pid).to_dict() for child in self._children]
        self._run.write("ranks.json", {"attempt": attempt, "processes": known})
        return True

    def adopt(self, attempt: int) -> None:
        """Watch the processes that a killed supervisor left."""
        self.attempt, self._children, self._first = attempt, [], []

    def watch(self) -> bool:
        """Return whether anything still runs; where a rank has ended otherwise than well, the others are ended too."""
        if not self.alive:
            self._reap()
            return False
        broken = [rank for rank in range(self._world) if self._is_broken(rank)]
        if broken:
            self._first = self._first or broken
        if broken or self._are_gone(self._processes()):  # all ended well, and what holds their lock is what they left behind
            self.stop(grace_s=0)
            return False
        return True

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """End all processes of the attempt, with what they started; return when none is left.

        What has put itself into another session cannot be told from other people's processes, and is left alone.
        """
        asked_at = time.monotonic()
        while self.alive:
            waited = time.monotonic() - asked_at
            late, processes = waited >= grace_s, self._processes()
            if waited >= grace_s + _LEFT_S and self._are_gone(processes):
                break
            for process in processes:
                process.send(signal.SIGKILL if late else signal.SIGTERM)
                process.end_orphans()
            self._pause(0.5)
        self._reap()

    def ending(self) -> Ending:
        """Say how the attempt ended, once none of its processes is left."""
        words = {rank: self._word(rank) for rank in range(self._world)}
        first = self._first or list(words)  # who ended before the others were ended for it
        return verdict(self._run, words, first, self._killed)

    def _spawn(self, rank: int, held: int, told: Mapping[str, str]) -> subprocess.Popen[bytes] | warm.Child:
        log = os.open(log_of(self._run.path, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        environment = {**os.environ, **told}
        try:
            return warm.fork(self._run.path, environment, log, held) or subprocess.Popen(
                [sys.executable, "-m", "jupyter_mlp.backends.worker", str(self._run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._run.path,
                start_new_session=True,  # its own children can be ended with it, and nobody else
                pass_fds=(held,),
            )
        finally:
            os.close(log)

    def _told(self, rank: int, port: int) -> dict[str, str]:
        threads = str(max(1, (os.cpu_count() or 1) // self._world))
        alone = {} if self._world == 1 else {"TORCHELASTIC_RUN_ID": self._run.path.name, "GLOO_SOCKET_IFNAME": "lo"}
        return {
            **({} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": threads}),
            **alone,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(self._world),
            "LOCAL_WORLD_SIZE": str(self._world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "MLP_ATTEMPT": str(self.attempt),
        }

    def _word(self, rank: int) -> dict[str, Any]:
        """Return what a rank of this attempt said of itself, and where it has not yet, what its supervisor knew."""
        word = self._run.read(f"rank.{rank}.json") or {}
        if word.get("attempt") == self.attempt:
            return word
        known = self._run.read("ranks.json") or {}
        return dict(known["processes"][rank]) if known.get("attempt") == self.attempt else {}

    def _is_broken(self, rank: int) -> bool:
        """Whether a rank has ended, and not well."""
        if self._children:
            return self._children[rank].poll() is not None and self._word(rank).get("ended") != "well"
        word = self._word(rank)
        return "pid" in word and word.get("ended") != "well" and not Process.from_dict(word).alive

    def _processes(self) -> list[Process]:
        self._poll()
        words = (self._word(rank) for rank in range(self._world))
        return [Process.from_dict(word) for word in words if "pid" in word]

    def _are_gone(self, processes: Sequence[Process]) -> bool:
        """Whether every rank has ended; one that has not said who it is may be about to."""
        return len(processes) == self._world and not any(process.alive for process in processes)

    def _killed(self, rank: int) -> str:
        name = who(rank, self._world)
        status = self._children[rank].poll() if self._children else None
        if status is None:
            return f"{name} was killed while no supervisor watched it."
        if status == warm.UNKNOWN:
            return f"{name} ended without a word."
        if status >= 0:
            return f"{name} ended with status {status} without a word."
        sent = signal.Signals(-status).name
        if sent == "SIGKILL" and _oom_kills() > self._ooms:
            return f"{name} was killed by the system because memory was used up."
        more = ", by somebody or for want of memory" if sent == "SIGKILL" else ""
        return f"{name} was killed ({sent}{more})."

    def _pause(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.alive and time.monotonic() < deadline:
            self._poll()
            time.sleep(_LOOK_S)

    def _poll(self) -> None:
        for child in self._children:
            child.poll()  # a killed child is there as long as nobody asks how it ended

    def _reap(self) -> None:
        for child in self._children:
            child.wait()


def _oom_kills() -> int:
    """Return how often the system's out-of-memory killer has struck since it was started; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
