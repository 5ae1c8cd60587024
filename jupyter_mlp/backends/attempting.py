"""What a supervisor needs of whoever runs the training processes: on this machine, or on a cluster.

Gang   the processes of one attempt: started together, watched, ended together; ranks.py, ray_gang.py, slurm_gang.py
Room   leave to have them: the queue of this machine, or that of a cluster
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_mlp.core.queueing import RUNS
from jupyter_mlp.store.jobs import RunFolder

_ROOM = 2**20  # bytes: with less, a rank cannot even say why it ended


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: `why` in a sentence; `again`, whether another attempt can end otherwise.

    Attributes:
        made_room: it was ended for another job.
    """

    well: bool
    why: str = ""
    hint: str = ""
    again: bool = False
    made_room: bool = False


class Gang(Protocol):
    """The processes of a run's newest attempt."""

    def start(self, attempt: int, environment: Mapping[str, str]) -> bool:
        """Start an attempt; False when processes of another one still run."""
        ...

    def adopt(self, attempt: int) -> None:
        """Watch what a killed supervisor left."""
        ...

    def watch(self) -> bool:
        """Return whether anything still runs; where one has ended otherwise than well, the others are ended too."""
        ...

    def stop(self) -> None:
        """End all; return when none is left."""
        ...

    def ending(self) -> Ending:
        """Say how the attempt ended, once nothing of it is left."""
        ...


class Room(Protocol):
    """Leave to have the processes of an attempt."""

    @property
    def state(self) -> str:
        """What this job was told last: WAITS, FILLS or RUNS."""
        ...

    @property
    def devices(self) -> Sequence[int]:
        """Numbers of this machine's GPUs that are the job's; none where the engine gives them out."""
        ...

    def ask(self) -> tuple[str, int]:
        """Return what this job may do now, and its place among those who wait."""
        ...

    def leave(self) -> None:
        """Say that none of this job's processes runs any more."""
        ...


class Granted:
    """Room that an engine has given before its job began."""

    state, devices = RUNS, ()

    def ask(self) -> tuple[str, int]:
        """It may run."""
        return RUNS, 0

    def leave(self) -> None:
        """It is the engine's to take."""


def verdict(run: RunFolder, words: Mapping[int, Mapping[str, Any]], first: Sequence[int], killed: Callable[[int], str]) -> Ending:
    """Say how an attempt ended, from what its ranks said.

    Args:
        words: what each rank said of itself. `first`: those that ended before the others were ended for it.
        killed: says how a rank ended that said nothing.
    """
    failed = sorted((word for word in words.values() if word.get("ended") == "error"), key=lambda word: float(word["at"]))
    mistakes = [word for word in failed if not word["again"]]
    silent = [rank for rank in first if "ended" not in words[rank]]
    if run.has_result:
        return Ending(True)
    if not failed and shutil.disk_usage(run.path).free < _ROOM:
        return Ending(False, f"The disk of {run.path} is full.", "Free some space and train again.")
    if mistakes:
        return Ending(False, mistakes[0]["error"], mistakes[0]["hint"])
    if silent:
        return Ending(False, killed(silent[0]), again=True)
    if failed:
        return Ending(False, failed[0]["error"], failed[0]["hint"], again=True)
    return Ending(False, "The training processes ended without a result.", "Look for exit() in the code.")


def who(rank: int, world: int) -> str:
    """Name a rank as people read it."""
    return "The training process" if world == 1 else f"Training process {rank} of {world}"
