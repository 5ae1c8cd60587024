"""Run folders: all that a training run is told and says, written by its workers, read by whoever attaches.

    <workspace>/runs/<id>/
      spec.json         what to do (written before the job starts)
      code/             the captured module and local modules
      handle.json       what finds the job again (host, the cluster's id of the job)
      ranks.json        the processes of the newest attempt
      ticket.json       what the job needs of the machine, and whether it may run (queue.py)
      rank.<n>.json     the process of a rank, and how it ended, in its own words
      pulse.<n>.json    how far a rank is; still.json and stall.<n>.json once none gets any further (stalls.py)
      meeting.json      where the ranks of a cluster find each other (backends/joining.py)
      log.txt           everything rank 0 printed; log.<n>.txt of the others
      events.jsonl      attempts, progress and metrics, one object a line, append only (attempts.py reads them)
      use.jsonl         what its processes use of their machines, every few seconds (usage.py reads it)
      fitted.json       the fitted recipe
      recipe.json       the same with the plan of rows
      checkpoints/      the last few places to go on from
      last/             the place behind its last epoch, for a run that trains on
      origin/           the place that it goes on from of a run before (training_resuming.py)
      cancel.json       somebody wants it to stop
      result/           weights, exported graph, code and card: all of it, or not there
      exit.json         how it ended; written last, fsynced

Workers never open the records database; `fold` brings the folder's truth into it, as often as you like.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.clusters import GONE, LOCAL, Cluster, Sight
from jupyter_mlp.core.entities import CANCELLED, FAILED, FINISHED, RUNNING, Activity
from jupyter_mlp.core.errors import JobError, NotFoundError, UnreachableError, nearest
from jupyter_mlp.core.plugins import load
from jupyter_mlp.core.protocols import Launcher
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import checkpoints, registry
from jupyter_mlp.store.activities import PROCESS
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.attempts import history, placed
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import Process
from jupyter_mlp.store.workspace import Workspace

CANCEL = "cancel.json"


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def has_result(self) -> bool:
        """Whether the training has ended well: its result appears all at once."""
        return (self.path / "result").is_dir()

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Publish a JSON file of the folder."""
        publish_bytes(self.path / name, json.dumps(value, ensure_ascii=False, indent=1).encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the folder; None when it is not there."""
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def say(self, event: Mapping[str, Any], name: str = "events.jsonl") -> None:
        """Append one event; a line is written with one system call, so lines never mix."""
        line = json.dumps({"at": round(time.time(), 3), **event}, ensure_ascii=False, default=float) + "\n"
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def events(self, offset: int = 0, name: str = "events.jsonl") -> tuple[list[dict[str, Any]], int]:
        """Return the whole events after byte `offset`, and the offset to go on from."""
        try:
            with (self.path / name).open("rb") as handle:
                handle.seek(offset)
                data = handle.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        return [event for line in whole.splitlines(keepends=True) for _, event in placed(line)], offset + len(whole)

    def end(self, state: str, error: str = "", hint: str = "", **facts: Any) -> None:
        """Write how the run ended; the first word stands."""
        if self.read("exit.json") is None:
            self.write("exit.json", {"state": state, "error": error, "hint": hint, "at": time.time(), **facts})


def folder_of(workspace: Workspace, run_id: str) -> RunFolder:
    """Return the folder of a run.

    Raises:
        NotFoundError: there is no such run; the hint names the newest.
    """
    path = workspace.find("runs", run_id)
    if not (path / "spec.json").exists():
        recent = [f"run:{run_of(a)}" for a in workspace.activities.recent(["train"], limit=3)]
        raise NotFoundError(
            f"There is no run {run_id} in this workspace.", nearest(f"run:{run_id}", recent) or "mlp status lists the newest."
        )
    return RunFolder(path)


def run_of(activity: Activity) -> str:
    """Return the id of the run that an activity is, or that it was answered from."""
    return next((ref.name for ref in activity.made if ref.kind == "run"), activity.id)


def state_of(folder: RunFolder) -> tuple[str, str]:
    """Return a run's true state and, for a failed one, the reason; a job that stands still because of a kill goes on."""
    ended = folder.read("exit.json")
    if ended is None and look(folder).state == GONE:
        ended = folder.read("exit.json")  # it may have ended between the two looks
        if ended is None and folder.has_result:
            return FINISHED, ""  # the supervisor was killed after the training had ended
        if ended is None:
            revive(folder)
            ended = folder.read("exit.json")
    if ended:
        return str(ended["state"]), str(ended.get("error") or "")
    return RUNNING, ""


def start(folder: RunFolder) -> None:
    """Start a job, or go on with one that was killed, unless it is being started or runs.

    Raises:
        JobError: it cannot be started.
    """
    held = Lease(folder.path / "start.lock").take()
    if held is None:
        return
    try:
        if look(folder).state == GONE:
            cluster = cluster_of(folder)
            handle = _launcher(cluster).submit(folder.path, folder.path.parents[1])
            folder.write("handle.json", {**handle, "where": cluster.to_dict()})
    finally:
        os.close(held)


def revive(folder: RunFolder) -> None:
    """Go on with a job that was killed; when that cannot be, say so as the job's end."""
    try:
        start(folder)
    except UnreachableError:
        pass  # the next look tries again
    except JobError as error:
        folder.end(FAILED, *told(folder, error.message, error.hint))
    except OSError:
        pass  # who may only look leaves it to its owner, and on a full disk nothing starts: the next look tries again


def look(folder: RunFolder) -> Sight:
    """Return what the engine that runs a job says of it now; without a job it is gone."""
    handle = folder.read("handle.json")
    return Sight(GONE) if handle is None else _launcher(_named(handle)).look(handle)


def cancel(folder: RunFolder) -> None:
    """End a job, whatever it is doing; return when it has ended. The wish is written first, so a kill does not lose it."""
    folder.write(CANCEL, {"at": time.time()})
    handle = folder.read("handle.json")
    if state_of(folder)[0] == RUNNING and handle is not None:
        _launcher(_named(handle)).cancel(handle)


def told(folder: RunFolder, error: str, hint: str) -> tuple[str, str]:
    """Return why a run failed, and what to type next with where to find its log."""
    run, step = f"run:{folder.path.name}", checkpoints.last_step(folder.path)
    on = "" if step is None else f"%mlp_train --resume {run} goes on from step {step:,}.  "
    whole = f"{on}The whole log: %mlp_attach {run} --logs"
    return error, f"{hint}  {whole}" if hint else whole


def complete(workspace: Workspace, folder: RunFolder) -> None:
    """Register the model of a run whose training has ended, and say that it finished; twice is as good as once."""
    spec = folder.read("spec.json") or {}
    card = RunFolder(folder.path / "result").read(registry.CARD) or {}
    model = registry.register(workspace, folder.path / "result", card, spec["model"])
    facts = {name: card[name] for name in ("metrics", "steps", "rows", "fit_s")}
    folder.end(FINISHED, model=model, **facts, device=card.get("device"))
    checkpoints.settle(folder.path)


def fold(workspace: Workspace, run_id: str) -> Activity:
    """Bring what the run's folder says into its record, and return the record."""
    activity = workspace.activities.get(run_id)
    if activity.state != RUNNING:
        return activity
    folder = folder_of(workspace, run_id)
    state, reason = state_of(folder)
    if state == RUNNING:
        return activity
    if state == FINISHED and folder.read("exit.json") is None:
        complete(workspace, folder)
    ended = folder.read("exit.json") or {}
    facts = {key: value for key, value in ended.items() if key not in ("state", "error", "hint", "at")}
    if state == FINISHED:
        made = [Ref("run", run_id), Ref("model", str(ended["model"]))]
        return workspace.activities.finish(activity, made=made, facts=facts)
    if state == CANCELLED:
        return workspace.activities.cancel(activity, facts=facts)
    return workspace.activities.fail(activity, reason, facts=facts)


def settled(workspace: Workspace, activity: Activity) -> Activity:
    """Return an activity that is recorded as running as it truly is: what was killed has failed, a job may have ended."""
    if activity.kind == "train":
        try:
            return fold(workspace, activity.id)
        except NotFoundError:
            return workspace.activities.fail(activity, "It was killed before the job was written.")
        except OSError:
            return activity  # on a full disk no model is registered: a later look does it, and this one shows the others
    told = activity.facts.get(PROCESS)
    if activity.host == socket.gethostname() and told and not Process.from_dict(told).alive:
        return workspace.activities.fail(activity, "The process that did this was killed.")
    return activity


def metric_series(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """Return every metric as a list of (step, value)."""
    series: dict[str, list[tuple[int, float]]] = {}
    for event in history(folder):
        for name, value in event.get("metrics", {}).items():
            series.setdefault(name, []).append((int(event.get("step", 0)), float(value)))
    return series


def follow(folder: RunFolder, every_s: float = 0.1) -> Iterator[list[dict[str, Any]]]:
    """Yield new events as they come, ending when the run has ended."""
    offset = 0
    while True:
        ended = state_of(folder)[0] != RUNNING
        events, offset = folder.events(offset)
        yield events
        if ended:
            return
        time.sleep(every_s)


def cluster_of(folder: RunFolder) -> Cluster:
    """Return the cluster that a run was sent to, as it was named then."""
    return _named(folder.read("spec.json") or {})


def _named(told: Mapping[str, Any]) -> Cluster:
    return Cluster.from_dict(told["where"]) if told.get("where") else LOCAL


def _launcher(cluster: Cluster) -> Launcher:
    launcher: Launcher = load("launchers", cluster.kind)(cluster)
    return launcher
