"""The supervisor of a job on a cluster: it runs inside the engine's job, and whoever ends that ends all of it.

It opens no records database: it writes into the run's folder, which every node reaches at the same path, and whoever
attaches brings that into the records. Killed with its node, it is started again by the engine or by whoever looks next,
and goes on from the last checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_mlp.backends import starting
from jupyter_mlp.backends.attempting import Ending, Gang, Room, verdict, who
from jupyter_mlp.backends.joining import print_to
from jupyter_mlp.backends.supervisor import Supervisor, oversee
from jupyter_mlp.core.entities import CANCELLED, FAILED
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.store import jobs
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace

LOG = "supervisor.log"
UNSEEN = 66  # exit status: the run's folder is not there


def see_through(folder: Path, root: Path, made: Callable[[RunFolder, dict[str, Any]], tuple[Gang, Room]]) -> int:
    """See one run of a cluster through; return the exit status.

    Args:
        made: makes the ranks and their room; a JobError of its own is how the run has ended.
    """
    run = RunFolder(folder)
    spec = run.read("spec.json")
    if spec is None:
        print(f"{folder} is not there on this node.", file=sys.stderr)  # noqa: T201 - the engine keeps it
        return UNSEEN
    print_to(folder / LOG)
    if run.read("exit.json") is None:
        if (folder / jobs.CANCEL).exists():
            run.end(CANCELLED)
        else:
            try:
                gang = made(run, spec)
            except JobError as error:
                run.end(FAILED, error.message, error.hint)
                return 0
            oversee(run, Supervisor(run, Workspace(root), *gang))
    return 0


class Words:
    """What the ranks of an attempt say of themselves, where nobody can look at their processes."""

    def __init__(self, run: RunFolder, world: int) -> None:
        self._run, self._world = run, world
        self.attempt, self._adopted = 0, False
        self._first: list[int] = []
        self._ends: dict[int, str] = {}  # how a rank ended, in the engine's words

    def begin(self, attempt: int) -> None:
        """Write down that an attempt begins, which ends whatever is left of the one before."""
        self.attempt, self._first, self._ends, self._adopted = attempt, [], {}, False
        self._run.write("ranks.json", {"attempt": attempt, "processes": []})

    def adopt(self, attempt: int) -> None:
        """Nothing is left: what this supervisor's predecessor had started has ended with it."""
        self.attempt, self._first, self._ends, self._adopted = attempt, [], {}, True

    def ending(self) -> Ending:
        """Say how the attempt ended."""
        words = {rank: self._word(rank) for rank in range(self._world)}
        found = verdict(self._run, words, self._first or list(words), self._killed)
        if self._adopted and found.again and (why := starting.why_started(self._run)):
            return replace(found, why=why, hint="")  # the engine ended all of it: what the ranks said on the way is not the cause
        return found

    def _word(self, rank: int) -> dict[str, Any]:
        word = self._run.read(f"rank.{rank}.json") or {}
        return word if word.get("attempt") == self.attempt else {}

    def _killed(self, rank: int) -> str:
        if rank in self._ends:
            return f"{who(rank, self._world)} {self._ends[rank]}."
        return f"{who(rank, self._world)} was killed with its supervisor."
