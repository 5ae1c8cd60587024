"""The scheduler: a process that lives without kernel and JupyterLab, plans what is due and has it run. Any number may be at work.

    python -m jupyter_mlp.scheduler                          the one of this user and workspace, started by `mlp schedule`
    python -m jupyter_mlp.scheduler run NAME TICK ATTEMPT    one attempt, in a process of its own

A scheduler that is killed leaves nothing undone: its runners go on and record how they ended, and the next scheduler, here or on
another machine, takes what is left. What an attempt has recorded as run is never run again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jupyter_mlp.core import cron
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.notebook import notify
from jupyter_mlp.store import schedules
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import Process, spawn
from jupyter_mlp.store.schedules import Stored, StoredTick
from jupyter_mlp.store.workspace import Workspace, current

_RUNNER = (sys.executable, "-m", "jupyter_mlp.scheduler", "run")
_EVERY_S = 1.0
_BEAT_S = 20.0
_MOST_TOLD = 5  # times that telling somebody is tried

Clock = Callable[[], float]
Execute = Callable[[Workspace, Stored, StoredTick], dict[str, Any]]


def ensure(workspace: Workspace) -> Process | None:
    """Start this workspace's scheduler on this machine, unless it is at work; return its process when it was started."""
    if Lease(workspace.root / "scheduler.lock").held:
        return None
    variables = {"MLP_WORKSPACE": str(workspace.root), "MLP_PINS": None, "MLP_NOTEBOOK": None, "JPY_SESSION_NAME": None}
    return spawn([sys.executable, "-m", "jupyter_mlp.scheduler"], workspace.root / "scheduler.log", variables, folder=workspace.root)


def serve(
    workspace: Workspace,
    *,
    clock: Clock = time.time,
    every_s: float = _EVERY_S,
    workers: int | None = None,
    runner: Sequence[str] = _RUNNER,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Be a scheduler until `until` says so: plan, recover, start, tell, again and again.

    Args:
        workers: runs at the same time on this machine; as many as it has processors when left out.
        runner: the command that does one attempt, followed by schedule, tick and attempt.
    """
    while not until():
        with _survived():
            step(workspace, clock(), workers or os.cpu_count() or 1, runner)
        time.sleep(every_s)


def step(workspace: Workspace, now: float, workers: int, runner: Sequence[str] = _RUNNER) -> None:
    """Do what is to be done at this moment."""
    database = workspace.database
    known = {one.name: one for one in schedules.every(database)}
    for one in known.values():
        if one.state == schedules.ACTIVE:
            plan(workspace, one, now)
    schedules.recover(database, now)
    host = schedules.me().split('"host":"')[1].split('"')[0]
    free = workers - sum(f'"host":"{host}"' in tick.owner for tick in schedules.running(database))
    for tick in schedules.waiting(database, now):
        if free <= 0:
            break
        attempt = schedules.claim(database, tick, now, int(known[tick.schedule].spec["max_running"])) if tick.schedule in known else None
        if attempt is not None:
            log = workspace.root / "scheduler.log"
            spawn([*runner, tick.schedule, tick.tick, str(attempt)], log, {"MLP_WORKSPACE": str(workspace.root)}, folder=workspace.root)
            free -= 1
    for tick in schedules.untold(database):
        _tell(workspace, known, tick)


def plan(workspace: Workspace, schedule: Stored, now: float) -> None:
    """Record what has fallen due since it was last looked; each moment and each table version is one tick, whoever looks."""
    spec = schedule.spec
    if spec.get("on"):
        newest = workspace.lake.current(str(spec["on"]))
        if newest and newest != schedule.seen:
            schedules.plan(workspace.database, schedule, [(f"{spec['on']}@{newest}", now, True)], newest)
        return
    due = cron.due(str(spec["cron"]), str(spec["tz"]), float(schedule.seen), now)
    if due:
        run = cron.kept(due, now, str(spec["catch_up"]))
        ticks = [(cron.shown(moment, str(spec["tz"])), moment, moment in run) for moment in due]
        schedules.plan(workspace.database, schedule, ticks, repr(due[-1]))


def attempt(
    workspace: Workspace, name: str, tick_name: str, number: int, *, clock: Clock = time.time, execute: Execute | None = None
) -> None:
    """Do one attempt at a tick and record how it ended, unless somebody else has taken it over since."""
    database = workspace.database
    if not schedules.hold(database, name, tick_name, number, clock()):
        return
    schedule = next(one for one in schedules.every(database, (schedules.ACTIVE, schedules.PAUSED, schedules.REMOVED)) if one.name == name)
    tick = next(one for one in schedules.running(database) if (one.schedule, one.tick) == (name, tick_name))
    with _beating(workspace, tick, clock):
        try:
            facts = (execute or run)(workspace, schedule, tick)
        except MLPError as error:
            _failed(workspace, schedule, tick, error, clock())
            return
    schedules.close(database, name, tick_name, number, schedules.FINISHED, clock(), facts)


def run(workspace: Workspace, schedule: Stored, tick: StoredTick) -> dict[str, Any]:
    """Run the notebook of a schedule for a tick; a run of it that has finished already is the answer."""
    from jupyter_mlp import pipelines, snapshots

    spec = schedule.spec
    key = digest("tick", schedule.name, tick.tick)
    known = workspace.activities.find(key)
    if known is not None:
        return {"run": str(known.made[0]), "notebook": known.facts["notebook"]}
    os.environ["MLP_TICK"] = tick.tick
    done = pipelines.run_notebook(spec["notebook"], spec["parameters"], timeout=spec.get("timeout_s"), key=key)
    facts: dict[str, Any] = {"run": done.ref, "notebook": str(done.notebook)}
    try:
        facts["snapshot"] = snapshots.snapshot(done.notebook).ref
    except MLPError as error:  # the run is well; that it cannot be verified is said, and is no reason to run it again
        facts["not_verifiable"] = error.message
    return facts


def _failed(workspace: Workspace, schedule: Stored, tick: StoredTick, error: MLPError, now: float) -> None:
    spec, said = schedule.spec, {"error": error.message, "hint": error.hint}
    if tick.failures < int(spec["retries"]):
        schedules.again(workspace.database, tick, now + float(spec["backoff_s"]) * 2**tick.failures, said, failed=True)
    else:
        schedules.close(workspace.database, tick.schedule, tick.tick, tick.attempt, schedules.FAILED, now, said)


def _tell(workspace: Workspace, known: dict[str, Stored], tick: StoredTick) -> None:
    """Tell whoever wants to know of a failure, and of the first success after one; tried again when it does not work."""
    previous = schedules.before(workspace.database, tick)
    recovered = tick.state == schedules.FINISHED and previous is not None and previous.state == schedules.FAILED
    schedule = known.get(tick.schedule)
    targets = list(schedule.spec.get("notify", ())) if schedule else []
    if not targets or not (recovered or tick.state == schedules.FAILED):
        schedules.tell(workspace.database, tick, 1)
        return
    if not schedules.tell(workspace.database, tick, tick.told - 1):  # another scheduler does
        return
    told = {"schedule": tick.schedule, "tick": tick.tick, "state": "recovered" if recovered else "failed", **tick.facts}
    try:
        for target in targets:
            notify.send(str(target), told, workspace.settings)
    except (MLPError, OSError) as error:
        sys.stderr.write(f"Telling {tick.schedule} {tick.tick} failed: {error}\n")
        last = tick.told - 1 <= -_MOST_TOLD
        if last:
            _mark(workspace, tick)
        return
    _mark(workspace, tick)


def _mark(workspace: Workspace, tick: StoredTick) -> None:
    now = next((one for one in schedules.untold(workspace.database) if (one.schedule, one.tick) == (tick.schedule, tick.tick)), None)
    if now is not None:
        schedules.tell(workspace.database, now, 1)


@contextlib.contextmanager
def _beating(workspace: Workspace, tick: StoredTick, clock: Clock) -> Iterator[None]:
    """Say every few seconds that the attempt is under way: schedulers on other machines cannot see this process."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_BEAT_S):
            with contextlib.suppress(MLPError):
                schedules.hold(workspace.database, tick.schedule, tick.tick, tick.attempt, clock())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def _survived() -> Iterator[None]:
    """A busy database or a full disk is said in the log and tried again; a scheduler does not end for it."""
    try:
        yield
    except (MLPError, OSError) as error:
        sys.stderr.write(f"{time.strftime('%F %T')} {error}\n")


def main(words: Sequence[str]) -> int:
    """Be this workspace's scheduler on this machine, or do one attempt."""
    workspace = current()
    if words[:1] == ["run"]:
        attempt(workspace, words[1], words[2], int(words[3]))
        return 0
    if Lease(workspace.root / "scheduler.lock").take() is None:
        return 0
    serve(workspace)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
