"""The supervisor of one job: starts the ranks, starts them again after a kill, and writes how it ended.

    python -m jupyter_mlp.backends.supervisor RUN_FOLDER WORKSPACE LEASE     on this machine

Here it holds the lease that whoever started it took (an open file), so a run never has two. It needs no kernel and no Lab;
killed itself, whoever looks next starts another one, which goes on with the processes that are left. On a cluster the
same supervisor runs inside the engine's job (ray_gang.py, slurm_gang.py), which ends with it, and opens no database.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jupyter_mlp.backends import warm
from jupyter_mlp.backends.attempting import Ending, Gang, Room
from jupyter_mlp.backends.local import ALL_GPUS
from jupyter_mlp.backends.ranks import Ranks
from jupyter_mlp.core.entities import CANCELLED, FAILED
from jupyter_mlp.core.queueing import FILLS, WAITS
from jupyter_mlp.store import checkpoints, gpus, jobs
from jupyter_mlp.store.attempts import BEGUN, SUPERVISOR, Attempt, attempts, log_sizes, taken_over
from jupyter_mlp.store.checkpoints import Checkpoint
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.queue import Queue
from jupyter_mlp.store.stalls import Stalls
from jupyter_mlp.store.workspace import Workspace

_LOOK_S = (0.05, 0.25)  # at least and at most between two looks, each of which takes half a millisecond from the training
_LATER = 0.05  # of what it has run: so much later its end may be seen
_ASK_S = 0.3
_FARTHEST = 20  # times that: who is far back in the queue asks less often, so that those in front get to ask


def main(folder: Path, root: Path, lease: int) -> int:
    """See one run of this machine through; return the exit status."""
    os.set_inheritable(lease, False)  # ours alone: no rank may hold it longer than we live
    run, workspace = RunFolder(folder), Workspace(root)
    if run.read("exit.json") is None:
        spec = run.read("spec.json") or {}
        devices = gpus.count() or os.cpu_count() or 1
        queue = Queue(workspace, run, workspace.settings.processes or devices, devices)
        oversee(run, Supervisor(run, workspace, Ranks(run, int(spec["gpus"])), queue))
    jobs.fold(workspace, folder.name)
    warm.keep(workspace.settings.idle_stop_s)
    return 0


def oversee(run: RunFolder, supervisor: Supervisor) -> None:
    """Let a supervisor do its work; when it cannot, that is how the run ended."""
    run.say({SUPERVISOR: "up", "pid": os.getpid()})
    try:
        supervisor.run()
    except Exception as error:  # noqa: BLE001 - a run that cannot be supervised has failed, and says so
        traceback.print_exc()
        supervisor.stop()
        if not run.has_result:  # what is trained is not lost because it could not be registered now: the next look does it
            why = f"The job's supervisor failed: {type(error).__name__}: {error}"
            run.end(FAILED, why, "supervisor.log in the run's folder has all of it.")


class Supervisor:
    """What is done for one run until it has ended."""

    def __init__(self, run: RunFolder, workspace: Workspace, gang: Gang, room: Room) -> None:
        spec = run.read("spec.json") or {}
        self._run, self._workspace = run, workspace
        self._world, self._retries = int(spec["gpus"]), int(spec["retries"])
        self._ranks, self._queue = gang, room
        self._resumes = bool(spec.get("resume"))
        self._stalls = Stalls(run, self._world, float(spec.get("max_stall_s", 0.0)))
        self._state, self._place = room.state, 0

    def run(self) -> None:
        """Go on from whatever is there: nothing yet, ranks of a killed supervisor, or what is left of a killed attempt."""
        done = attempts(self._run)
        if not done and self._is_cancelled:
            self._run.end(CANCELLED)
            return
        if done:
            self._ranks.adopt(done[-1].number)
            self._stalls.begin(done[-1].number)
            ending = self._watched()
        else:
            ending = self._begun()
        while not self._is_over(ending):
            ending = self._go_on(ending)

    def stop(self) -> None:
        """End the run's processes."""
        self._ranks.stop()

    def _is_over(self, ending: Ending) -> bool:
        if self._is_cancelled:
            self._run.end(CANCELLED)
        elif ending.well:
            jobs.complete(self._workspace, self._run)
        elif not ending.again:
            self._run.end(FAILED, *jobs.told(self._run, ending.why, ending.hint))
        else:
            return False
        return True

    def _begun(self) -> Ending:
        """Start the first attempt; one that goes on with another run, from that run's checkpoint."""
        found, unused = checkpoints.last(self._run.path)
        if found is None and self._resumes:
            return _lost(unused)
        return self._attempt(found, Ending(False), [])

    def _go_on(self, ending: Ending) -> Ending:
        """Start the next attempt from the last good checkpoint, unless it has been tried often enough from there."""
        found, unused = checkpoints.last(self._run.path)
        if found is None and self._resumes:
            return _lost(unused)
        for sentence in unused:
            self._run.say({SUPERVISOR: "note", "note": f"{sentence} {_from(found)}"})
        done = attempts(self._run)
        restarts = _restarts(done, found.step if found else None)
        if restarts >= self._retries and not ending.made_room:
            often = "once" if restarts == 1 else f"{restarts} times"
            said = f"It was started again {often} {_from(found).lower().removesuffix('.')};" if restarts else "It was not started again:"
            return Ending(False, f"{ending.why} {said} --retries {self._retries} allows no more.", ending.hint)
        return self._attempt(found, ending, done)

    def _attempt(self, found: Checkpoint | None, before: Ending, done: list[Attempt]) -> Ending:
        if not self._has_room():
            return before
        number = done[-1].number + 1 if done else 1
        room = {"made_room": True} if before.made_room else {}
        self._run.say({BEGUN: number, "resumes": found.step if found else None, "why": before.why, **room})
        if number > 1 and (found is None or found.is_of_another):
            sizes = log_sizes(self._run.path, self._world)
            self._run.say(taken_over(found.step if found else 0, 0, [0] * self._world, sizes))
        environment = {"MLP_RESUME": str(found.path)} if found else {}
        visible = gpus.visible() if self._queue.devices else []
        if visible:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[number % len(visible)] for number in self._queue.devices)
            environment[ALL_GPUS] = ",".join(visible)
        if not self._ranks.start(number, environment):
            raise RuntimeError("processes of another attempt still run")
        self._stalls.begin(number)
        return self._watched()

    def _watched(self) -> Ending:
        begun = asked = time.monotonic()
        while self._ranks.watch():
            now = time.monotonic()
            if self._is_cancelled:
                self._ranks.stop()
            elif self._stalls.come():
                why, hint = self._stalls.told()
                self._ranks.stop()
                ending = self._ranks.ending()
                return ending if ending.well else Ending(False, why, hint, again=True)
            if self._state == FILLS and now - asked >= _ASK_S:
                asked = now
                if not self._asked():
                    self._ranks.stop()
                    ending = self._ranks.ending()
                    return ending if ending.well else Ending(False, "It made room for a larger job before it.", again=True, made_room=True)
            time.sleep(min(max(_LATER * (now - begun), _LOOK_S[0]), _LOOK_S[1]))
        return self._ranks.ending()

    def _has_room(self) -> bool:
        """Wait for a place among the machine's processes; False when the job was cancelled meanwhile."""
        said = 0
        while not self._asked():
            self._queue.leave()
            if self._is_cancelled:
                return False
            if self._place != said:
                said = self._place
                self._run.say({SUPERVISOR: "note", "note": f"queued: place {said}, for {self._world} of the machine's processes"})
            self._pause()
        return not self._is_cancelled

    def _pause(self) -> None:
        """Wait until it is time to ask again, or the job is cancelled."""
        for _ in range(max(1, min(self._place, _FARTHEST))):
            time.sleep(_ASK_S)
            if self._is_cancelled:
                return

    def _asked(self) -> bool:
        with suppress(TimeoutError):  # very many ask: what this job was told last holds until it gets to ask again
            self._state, self._place = self._queue.ask()
        return self._state != WAITS

    @property
    def _is_cancelled(self) -> bool:
        return (self._run.path / jobs.CANCEL).exists()


def _restarts(done: list[Attempt], step: int | None) -> int:
    """Return how often a run was started again from a place without getting any further."""
    count = 0
    for attempt in reversed(done):
        if attempt.resumes != step or attempt.number == 1:
            break
        count += not attempt.made_room
    return count


def _lost(unused: Sequence[str]) -> Ending:
    """There is no beginning to go back to: that of the run before is another run's."""
    return Ending(False, " ".join(["There is nothing to go on from.", *unused]), "Train anew: %mlp_train MODEL --data DATASET.")


def _from(found: Checkpoint | None) -> str:
    return f"From step {found.step:,}." if found else "From the beginning."


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
