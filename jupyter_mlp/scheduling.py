"""Schedules: a notebook run by itself, at times or when a table has a new version, and what became of each run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp import job_files, scheduler
from jupyter_mlp.core import cron
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.job_files import JobFiles
from jupyter_mlp.notebook import document, notify
from jupyter_mlp.store import modes
from jupyter_mlp.store import schedules as stored
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.schedules import Stored, StoredTick
from jupyter_mlp.store.workspace import Workspace, current

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,60}")


@dataclass(frozen=True, repr=False)
class Schedule(Shown):
    """A notebook that runs by itself.

    Attributes:
        next: the next moments at which it is due, in its time zone; empty when it waits for a table.
        last: its newest tick, and what became of it.
    """

    name: str
    state: str
    spec: Mapping[str, Any]
    next: tuple[str, ...]
    last: StoredTick | None

    @property
    def ref(self) -> str:
        """Its name."""
        return self.name

    @property
    def when(self) -> str:
        """When it runs, in one line."""
        return f"new version of {self.spec['on']}" if self.spec.get("on") else f"{self.spec['cron']} {self.spec['tz']}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        last = {"tick": self.last.tick, "state": self.last.state} if self.last else None
        return {"kind": "schedule", "name": self.name, "state": self.state, **self.spec, "next": list(self.next), "last": last}

    def card(self) -> Card:
        """Return when it runs, and what."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.spec["parameters"].items()) or "the defaults"
        facts = [
            ("when", self.when),
            ("next", ", ".join(self.next[:2]) or None),
            ("state", self.state),
            ("notebook", self.spec["notebook"]),
        ]
        facts += [("parameters", given), ("missed", f"{self.spec['catch_up']} of what was missed is run")]
        return Card(f"schedule {self.name}", facts, notes=[f"Its runs: mlp history {self.name}"])


@dataclass(frozen=True, repr=False)
class Schedules(Shown):
    """All schedules of a workspace; `at_work`: whether a scheduler is at work on this machine."""

    all: tuple[Schedule, ...]
    at_work: bool

    @property
    def ref(self) -> str:
        """A list has no reference."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the schedules as JSON types."""
        return {"kind": "schedules", "at_work": self.at_work, "schedules": [one.to_dict() for one in self.all]}

    def card(self) -> Card:
        """Return a row for each schedule."""
        rows = [
            [one.name, one.state, one.when, (one.next or ("-",))[0], f"{one.last.tick}: {one.last.state}" if one.last else "-"]
            for one in self.all
        ]
        notes = [] if self.all else ["Make one: mlp schedule NOTEBOOK --cron '0 3 * * *'"]
        tables = [Table(["name", "state", "when", "next", "last"], rows)] if rows else []
        return Card("Schedules", [("scheduler on this machine", "at work" if self.at_work else "not at work")], tables, notes=notes)


@dataclass(frozen=True, repr=False)
class History(Shown):
    """Ticks and what became of them, the newest first."""

    ticks: tuple[StoredTick, ...]

    @property
    def ref(self) -> str:
        """A list has no reference."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the ticks as JSON types."""
        return {"kind": "history", "ticks": [{**vars(one), "facts": dict(one.facts)} for one in self.ticks]}

    def card(self) -> Card:
        """Return a row for each tick."""
        rows = [[one.schedule, one.tick, one.state, one.attempt, _took(one), _outcome(one)] for one in self.ticks]
        table = [Table(["schedule", "tick", "state", "attempts", "took", "outcome"], rows)] if rows else []
        return Card(
            "What the schedules did", tables=table, notes=[] if rows else ["Nothing has fallen due yet; mlp schedules says what will."]
        )


def schedule(
    notebook: str | Path,
    *,
    cron: str | None = None,
    on: str | None = None,
    tz: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    catch_up: str = "latest",
    retries: int = 0,
    backoff: str | float = "1min",
    timeout: str | float | None = None,
    max_running: int = 1,
    notify: Sequence[str] = (),
    template: str | None = None,
    output: str | Path | None = None,
) -> Schedule | JobFiles:
    """Let a notebook run by itself, in a process that needs neither kernel nor JupyterLab, and return the schedule.

    Each due moment is run once, whatever is restarted meanwhile. The same name again changes the schedule.

    Args:
        cron: minute, hour, day of month, month, day of week. `on`: a table instead, whose every new version is a run.
        tz: the clocks that `cron` means; this machine's when left out.
        name: the notebook's when left out.
        catch_up: of the runs that were missed: the `latest`, `all`, or `skip` them.
        retries: attempts after a failure, the first after `backoff` (a time), each further one after twice the time before.
        timeout: a time after which a run has failed.
        notify: whom to tell of failures and of the first success after one: https://..., mailto:..., command:...
        template: write the files of another scheduler instead (cron, systemd, airflow, argo, slurm), and schedule nothing here.
        output: the folder for these files; the current one when left out.

    Raises:
        InvalidInputError: the cron line, the zone, a parameter or another value cannot work; nothing is recorded then.

    Example:
        >>> mlp.schedule("nightly.ipynb", cron="0 3 * * *", tz="Europe/Zurich", parameters={"month": 2})
    """
    if modes.verifying():
        raise InvalidInputError("A verification makes no schedules.", "Schedule it from a notebook or a terminal.")
    workspace = current()
    file = document.read(notebook)
    spec = {
        "notebook": str(file.path),
        "parameters": file.checked(parameters or {}),
        **_when(cron, on, tz),
        **_how(catch_up, retries, backoff, timeout, max_running, notify),
    }
    chosen = checked_name(name or file.name)
    if template is not None:
        return job_files.write(spec, file, chosen, template, Path(output or "."), workspace.root)
    if output is not None:
        raise InvalidInputError("Only the files of another scheduler go into a folder.", "Say of which: --template airflow")
    now = time.time()
    seen = (workspace.lake.current(str(on)) or "") if on else repr(now)
    stored.save(workspace.database, chosen, spec, seen, now)
    scheduler.ensure(workspace)
    return _shown(workspace, stored.get(workspace.database, chosen))


def checked_name(name: str) -> str:
    """Return the name of a schedule.

    Raises:
        InvalidInputError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r:.80} is no name for a schedule.", "Give letters, digits, - and _: --name nightly")
    return name


def schedules(
    name: str | None = None, *, pause: bool = False, resume: bool = False, remove: bool = False, run: bool = False, serve: bool = False
) -> Any:
    """Return all schedules, or the one of that name; pause, resume or remove it, or let it run now.

    Args:
        run: once now, beside what falls due, a paused one too; `history` says what became of it.
        serve: be a scheduler, in the foreground, until interrupted (for systemd, containers, other machines).

    Raises:
        NotFoundError: there is no such schedule.

    Example:
        >>> mlp.schedules("nightly", pause=True).state
        'paused'
    """
    workspace = current()
    if serve:
        scheduler.serve(workspace)
    if name is None and (pause or resume or remove or run):
        raise InvalidInputError("Which schedule?", "Write its name: mlp schedules NAME --pause")
    if name is not None:
        stored.get(workspace.database, name)
        wanted = stored.REMOVED if remove else stored.PAUSED if pause else stored.ACTIVE if resume else None
        if wanted:
            stored.set_state(workspace.database, name, wanted)
        if run and not remove:
            now = time.time()
            stored.ask(workspace.database, name, cron.shown(now, cron.local_zone(), "seconds"), now)
            scheduler.ensure(workspace)
    known = stored.every(workspace.database)
    if any(one.state == stored.ACTIVE for one in known):
        scheduler.ensure(workspace)
    if name is not None and not remove:
        return _shown(workspace, stored.get(workspace.database, name))
    return Schedules(tuple(_shown(workspace, one) for one in known), Lease(workspace.root / "scheduler.lock").held)


def history(schedule: str | None = None, *, limit: int = 20) -> History:
    """Return what became of the newest due runs, of one schedule or of all, the newest first.

    Example:
        >>> mlp.history("nightly").ticks[0].state
        'finished'
    """
    workspace = current()
    if schedule is not None:
        stored.get(workspace.database, schedule)
    return History(tuple(stored.recent(workspace.database, schedule, limit)))


def _when(line: str | None, on: str | None, tz: str | None) -> dict[str, Any]:
    if (line is None) == (on is None):
        raise InvalidInputError("When does it run?", "Give either --cron '0 3 * * *' or --on lake.TABLE.")
    if on is not None:
        from jupyter_mlp.store.lake import split

        return {"on": ".".join(split(on.removeprefix("table:")))}
    zone = tz or cron.local_zone()
    return {"cron": cron.check(str(line), zone), "tz": zone}


def _how(
    catch_up: str, retries: int, backoff: str | float, timeout: str | float | None, max_running: int, targets: Sequence[str]
) -> dict[str, Any]:
    if catch_up not in cron.CATCH_UP:
        raise InvalidInputError(f"Of what was missed, {catch_up!r} cannot be run.", f"Choose from {', '.join(cron.CATCH_UP)}.")
    if retries < 0 or max_running < 1:
        raise InvalidInputError("Retries are 0 or more, and at least one run runs at a time.", "Correct --retries or --max-running.")
    return {
        "catch_up": catch_up,
        "retries": retries,
        "backoff_s": cron.seconds(backoff, "backoff"),
        "timeout_s": None if timeout is None else cron.seconds(timeout, "timeout"),
        "max_running": max_running,
        "notify": [notify.check(target) for target in targets],
    }


def _shown(workspace: Workspace, one: Stored) -> Schedule:
    coming: list[str] = []
    if one.spec.get("cron") and one.state == stored.ACTIVE:
        zone = str(one.spec["tz"])
        moments = cron.moments(str(one.spec["cron"]), zone, time.time())
        coming = [cron.shown(moment, zone) for moment, _ in zip(moments, range(3), strict=False)]
    last = stored.recent(workspace.database, one.name, 1)
    return Schedule(one.name, one.state, one.spec, tuple(coming), last[0] if last else None)


def _took(tick: StoredTick) -> str:
    return f"{tick.ended_at - tick.started_at:.1f} s" if tick.ended_at and tick.started_at else "-"


def _outcome(tick: StoredTick) -> str:
    facts = tick.facts
    return str(facts.get("snapshot") or facts.get("run") or facts.get("error") or ("missed" if tick.state == stored.SKIPPED else "-"))
